package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Process is a daemon as a real process, started and killed at will. It dies with
// whoever started it.
type Process struct {
	binary string
	args   []string
	env    []string
	log    io.Writer
	ready  func(ctx context.Context) error

	mu     sync.Mutex
	cmd    *exec.Cmd
	ended  chan struct{}
	output *tail
}

// Start runs the program and waits until it is ready.
func (p *Process) Start(ctx context.Context) error {
	if err := p.Launch(); err != nil {
		return err
	}
	return p.AwaitReady(ctx)
}

// Launch runs the program without waiting for it.
func (p *Process) Launch() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.output = &tail{}
	p.cmd = exec.Command(p.binary, p.args...)
	p.cmd.Env = append(os.Environ(), p.env...)
	p.cmd.Stdout, p.cmd.Stderr = io.MultiWriter(p.output, p.log), io.MultiWriter(p.output, p.log)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.binary, err)
	}
	p.ended = make(chan struct{})
	cmd, ended := p.cmd, p.ended
	go func() { _ = cmd.Wait(); close(ended) }() // the exit code is read from cmd
	return nil
}

// Setenv adds a variable to the next start's environment.
func (p *Process) Setenv(name, value string) { p.env = append(p.env, name+"="+value) }

// AwaitReady waits until the process answers, or says how it ended.
func (p *Process) AwaitReady(ctx context.Context) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := p.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended with %s:\n%s", p.args[0], p.cmd.ProcessState, p.output)
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s is not ready: %w", p.args[0], err), context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// Signal sends a signal to the process.
func (p *Process) Signal(signal syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return errors.New("not started")
	}
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.args[0], err)
	}
	return nil
}

// Kill ends the process at once, and waits until it is gone.
func (p *Process) Kill() error {
	err := p.Signal(syscall.SIGKILL)
	if err == nil {
		<-p.ended
	}
	return err
}

// Stop asks the process to end and returns its exit code.
func (p *Process) Stop(ctx context.Context) (int, error) {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return -1, err
	}
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return -1, errors.Join(fmt.Errorf("%s did not stop", p.args[0]), p.Kill())
	}
}

// Output is the end of what the process wrote.
func (p *Process) Output() string { return p.output.String() }

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

const tailBytes = 64 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b.Write(b)
	if over := t.b.Len() - tailBytes; over > 0 {
		t.b.Next(over)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// freePort finds a port below the ephemeral range, so that a process that is
// started again finds it free; at random, since other stages may look too.
func freePort(used map[int]bool) (int, error) {
	for range 1000 {
		port := 32001 + rand.IntN(32768-32001)
		if used[port] {
			continue
		}
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			used[port] = true
			return port, listener.Close()
		}
	}
	return 0, errors.New("no free port between 32001 and 32767")
}
