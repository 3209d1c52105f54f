package daemon

import (
	"context"
	"time"

	"github.com/robfig/cron/v3"
	"go.uber.org/zap"
)

// The scheduler knows only what a clock on the wall shows: when that is set back by
// three hours, nothing is due for three hours. Set forward it finds by itself, at the
// next second's heartbeat.

const (
	// clockEvery is how often the wall clock is held against the monotonic one. With
	// leastBack it stays below staleBeat: the schedule goes on before the watchdog bites.
	clockEvery = 5 * time.Second
	// leastBack is the least that counts as set back. Less delays every schedule once by
	// just that; clocks that are slewed lose milliseconds in this time.
	leastBack = 5 * time.Second
)

// mindClock reckons the schedule anew whenever the wall clock was set back, until ctx
// ends.
func (d *Daemon) mindClock(ctx context.Context, schedule *cron.Cron) {
	ticker := time.NewTicker(clockEvery)
	defer ticker.Stop()
	last := time.Now()
	wall := d.wall(last)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		shown := d.wall(now)
		back := now.Sub(last) - shown.Sub(wall)
		last, wall = now, shown
		if back >= leastBack {
			d.logger.Warn("the clock was set back: what is scheduled is due by the new time", zap.Duration("by", back))
			reckon(schedule)
		}
	}
}

// onWall is a time without its monotonic reading.
func onWall(t time.Time) time.Time { return t.Round(0) }

// reckon finds for every job anew when it is due. Not by Stop and Start: Stop waits for
// jobs that run on a WaitGroup to which Start would add meanwhile.
func reckon(schedule *cron.Cron) {
	for _, entry := range schedule.Entries() {
		schedule.Remove(entry.ID)
		schedule.Schedule(entry.Schedule, entry.Job)
	}
}
