package testkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Alertmanager is a private Alertmanager that tells nobody.
type Alertmanager struct {
	program string
	dir     string
	port    int
	proc    *process
}

// StartAlertmanager starts one. ctx bounds the start, not the server's life.
func StartAlertmanager(ctx context.Context) (*Alertmanager, error) {
	program, err := exec.LookPath("prometheus-alertmanager") // Debian's name for it
	if err != nil {
		return nil, fmt.Errorf("start alertmanager: %w: install the package \"prometheus-alertmanager\"", ErrMissingBinary)
	}
	dir, err := os.MkdirTemp("", "reconciled-alertmanager-*")
	if err != nil {
		return nil, fmt.Errorf("start alertmanager: %w", err)
	}
	a := &Alertmanager{program: program, dir: dir}
	for range 5 { // the port may be taken between the look and the start
		if a.port, err = freePort(); err != nil {
			break
		}
		if err = a.start(ctx); err == nil {
			return a, nil
		}
		if !strings.Contains(err.Error(), "address already in use") {
			break
		}
	}
	return nil, errors.Join(err, a.Close())
}

func (a *Alertmanager) start(ctx context.Context) error {
	config, path := filepath.Join(a.dir, "config.yml"), filepath.Join(a.dir, "alertmanager.log")
	if err := os.WriteFile(config, []byte("route: {receiver: "+a.name()+"}\nreceivers: [{name: "+a.name()+"}]\n"), 0o600); err != nil {
		return fmt.Errorf("start alertmanager: %w", err)
	}
	log, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("start alertmanager: %w", err)
	}
	defer log.Close()

	cmd := exec.Command(a.program, "--config.file="+config, "--storage.path="+filepath.Join(a.dir, "data"),
		"--web.listen-address="+loopback(a.port), "--cluster.listen-address=")
	cmd.Stdout, cmd.Stderr = log, log
	if a.proc, err = startProcess(cmd); err != nil {
		return fmt.Errorf("start alertmanager: %w", err)
	}
	if err := a.proc.waitReady(ctx, a.ready); err != nil {
		return errors.Join(fmt.Errorf("start alertmanager on port %d: %w: %s", a.port, err, tail(path)), a.kill())
	}
	return nil
}

// name of its only receiver, which no other server has.
func (a *Alertmanager) name() string { return filepath.Base(a.dir) }

// ready asks the server who it is: another one may hold the port.
func (a *Alertmanager) ready() bool {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(a.URL() + "/api/v2/receivers")
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	receivers, err := io.ReadAll(answer.Body)
	return err == nil && answer.StatusCode == http.StatusOK && strings.Contains(string(receivers), a.name())
}

// URL is its base address.
func (a *Alertmanager) URL() string { return "http://" + loopback(a.port) }

// Show is what amtool shows of the alerts that the server holds.
func (a *Alertmanager) Show(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "amtool", "--alertmanager.url="+a.URL(), "alert", "query", "--output=extended").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("run amtool: %w: %s", err, out)
	}
	return string(out), nil
}

func (a *Alertmanager) kill() error {
	if !a.proc.running() {
		return nil
	}
	if err := a.proc.signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill alertmanager: %w", err)
	}
	<-a.proc.done
	return nil
}

// Close kills the server and removes its directory.
func (a *Alertmanager) Close() error { return errors.Join(a.kill(), os.RemoveAll(a.dir)) }
