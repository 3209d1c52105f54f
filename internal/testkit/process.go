// Package testkit starts private servers for tests and the demo, and breaks
// them on request.
//
// It promises that a server listens on the loopback interface only, keeps its
// files in one directory, and dies with the process that started it, however
// that one ends. Postgres, Redis, Alertmanager and Proxy need nothing from package
// testing; shared.go has what test packages use.
package testkit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// ErrMissingBinary says that a server's program is not installed.
var ErrMissingBinary = errors.New("program not installed")

// pollEvery is the pace at which a server's state is looked at while waiting.
const pollEvery = 3 * time.Millisecond

// process is a child that the kernel kills when this program dies.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the child has been reaped
	err  error         // how it ended; read after done
}

// startProcess runs cmd in a process group of its own, so that a Ctrl-C at the
// terminal reaches it only through its owner.
//
// The death signal belongs to the thread that forked, not to the process: the
// goroutine keeps its thread until the child has ended.
func startProcess(cmd *exec.Cmd) (*process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Setpgid = true

	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// running is false for a process that was never started, too.
func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// waitReady polls ready until it holds, the process ends, or ctx does.
func (p *process) waitReady(ctx context.Context, ready func() bool) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if ready() {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("ended while starting: %w", p.err)
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// stop sends s and waits for the end; it kills when ctx ends first.
func (p *process) stop(ctx context.Context, s os.Signal) error {
	if err := p.signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		_ = p.signal(syscall.SIGKILL)
		<-p.done
		return fmt.Errorf("killed, it did not stop in time: %w", context.Cause(ctx))
	}
}

// freePort picks a loopback port that nobody listens on, below the range that
// Linux hands to outgoing connections: a server can come back on it.
func freePort() (int, error) {
	const low, high = 20000, 32000
	for range 100 {
		port := low + rand.IntN(high-low)
		l, err := net.Listen("tcp", loopback(port))
		if err != nil {
			continue
		}
		return port, l.Close()
	}
	return 0, fmt.Errorf("no free port between %d and %d", low, high)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// tail returns the end of a server's log, for an error message.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	const most = 2000
	if len(b) > most {
		b = b[len(b)-most:]
	}
	return string(b)
}
