package daemon

import (
	"os"
	"sync"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
)

// notify tells systemd, if it listens. There is nobody to tell of a failure.
func notify(state string) { _, _ = systemd.SdNotify(false, state) }

// staleBeat is how old the scheduler's heartbeat may be for the watchdog to be
// fed: a wedged scheduler is restarted, as no process looks more alive.
const staleBeat = 15 * time.Second

// live notes that the scheduler is alive.
func (d *Daemon) live() {
	now := time.Now()
	d.beat.Store(&now)
}

// watchdog feeds systemd's watchdog at half its period while the scheduler beats.
func (d *Daemon) watchdog() (stop func()) {
	period, err := systemd.SdWatchdogEnabled(false)
	if err != nil || period == 0 || os.Getenv("NOTIFY_SOCKET") == "" {
		return func() {}
	}
	done := make(chan struct{})
	var feeding sync.WaitGroup
	feeding.Go(func() {
		ticker := time.NewTicker(period / 2)
		defer ticker.Stop()
		for {
			if time.Since(*d.beat.Load()) < staleBeat || d.isStopping() {
				notify("WATCHDOG=1")
			} else {
				d.logger.Error("watchdog not fed: the scheduler stands still")
			}
			select {
			case <-done:
				return
			case <-ticker.C:
			}
		}
	})
	return func() { close(done); feeding.Wait() }
}

// cronLogger passes cron's own words on.
type cronLogger struct{ *zap.Logger }

func (l cronLogger) Info(string, ...any) {}

func (l cronLogger) Error(err error, message string, keysAndValues ...any) {
	l.Logger.Error("scheduler: "+message, zap.Error(err), zap.Any("details", keysAndValues))
}
