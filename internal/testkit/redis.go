package testkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// RedisOptions says where a Redis server lives.
type RedisOptions struct {
	Dir     string // empty: a temporary directory, removed by Close
	Port    int    // 0: any free one
	Persist bool   // append-only file, synced at each write; else nothing survives a stop
}

// Redis is a private server without a password, on the loopback interface.
type Redis struct {
	program   string
	dir       string
	temporary bool
	port      int
	persist   bool
	proc      *process
}

// StartRedis starts a server. ctx bounds the start, not the server's life.
func StartRedis(ctx context.Context, o RedisOptions) (*Redis, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("start redis: %w: install the package \"redis-server\"", ErrMissingBinary)
	}
	r := &Redis{program: program, dir: o.Dir, port: o.Port, persist: o.Persist}
	if r.dir == "" {
		if r.dir, err = os.MkdirTemp("", "reconciled-redis-*"); err != nil {
			return nil, fmt.Errorf("start redis: %w", err)
		}
		r.temporary = true
	} else if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, fmt.Errorf("start redis: %w", err)
	}
	for range 5 { // the port may be taken between the look and the start
		if o.Port == 0 {
			if r.port, err = freePort(); err != nil {
				break
			}
		}
		err = r.Start(ctx)
		if err == nil {
			return r, nil
		}
		if o.Port != 0 || !strings.Contains(err.Error(), "Address already in use") {
			break
		}
	}
	return nil, errors.Join(err, r.Close())
}

// Start starts a stopped or killed server again, on the same port.
func (r *Redis) Start(ctx context.Context) error {
	if r.proc.running() {
		return nil
	}
	path := filepath.Join(r.dir, "redis.log")
	log, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("start redis: %w", err)
	}
	defer log.Close()

	appendOnly := "no"
	if r.persist {
		appendOnly = "yes"
	}
	cmd := exec.Command(r.program,
		"--bind", "127.0.0.1", "--port", strconv.Itoa(r.port), "--dir", r.dir,
		"--daemonize", "no", "--save", "", "--appendonly", appendOnly, "--appendfsync", "always")
	cmd.Stdout, cmd.Stderr = log, log
	if r.proc, err = startProcess(cmd); err != nil {
		return fmt.Errorf("start redis: %w", err)
	}
	if err := r.proc.waitReady(ctx, r.ready); err != nil {
		return errors.Join(fmt.Errorf("start redis on port %d: %w: %s", r.port, err, tail(path)), r.Kill())
	}
	return nil
}

// ready asks the server who it is: another one may hold the port.
func (r *Redis) ready() bool {
	conn, err := net.DialTimeout("tcp", r.Addr(), time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := io.WriteString(conn, "INFO\r\nQUIT\r\n"); err != nil {
		return false
	}
	info, err := io.ReadAll(conn)
	return err == nil &&
		strings.Contains(string(info), fmt.Sprintf("process_id:%d\r", r.proc.pid())) &&
		strings.Contains(string(info), "\nloading:0\r")
}

// Addr is host:port.
func (r *Redis) Addr() string { return loopback(r.port) }

// URL is the address in the form that clients parse.
func (r *Redis) URL() string { return "redis://" + r.Addr() + "/0" }

// Kill ends the server with SIGKILL.
func (r *Redis) Kill() error {
	if !r.proc.running() {
		return nil
	}
	if err := r.proc.signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill redis: %w", err)
	}
	<-r.proc.done
	return nil
}

// Stop ends the server in good order, paused or not.
func (r *Redis) Stop(ctx context.Context) error {
	if !r.proc.running() {
		return nil
	}
	if err := errors.Join(r.Resume(), r.proc.stop(ctx, syscall.SIGTERM)); err != nil {
		return fmt.Errorf("stop redis: %w", err)
	}
	return nil
}

// Close kills the server and removes its directory if that is temporary.
func (r *Redis) Close() error {
	err := r.Kill()
	if r.temporary {
		err = errors.Join(err, os.RemoveAll(r.dir))
	}
	return err
}

// Pause freezes the server: connections stay open and nothing answers.
func (r *Redis) Pause() error { return r.send(syscall.SIGSTOP) }

// Resume lets a frozen server run on.
func (r *Redis) Resume() error { return r.send(syscall.SIGCONT) }

func (r *Redis) send(s syscall.Signal) error {
	if !r.proc.running() {
		return fmt.Errorf("signal redis %v: %w", s, os.ErrProcessDone)
	}
	return r.proc.signal(s)
}
