package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"go.yaml.in/yaml/v3"
)

// measureMemory is the largest resident size of the process that makes a round:
// `reconciled reconcile`, run where no daemon is, against central over HTTP. It
// loads the tree, finds ten thousand differences, and exchanges them.
func measureMemory(ctx context.Context, d *dataset, f *figures) (err error) {
	t, err := d.twins(ctx, nil)
	if err != nil {
		return err
	}
	defer t.close()
	url := t.url
	t.release()
	dir, err := os.MkdirTemp("", "reconciled-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary, err := buildProgram(ctx, dir)
	if err != nil {
		return err
	}
	config, err := yaml.Marshal(map[string]any{
		"database":    map[string]any{"url": d.server.URL("reconciled_runtime", storeDatabase)},
		"api":         map[string]any{"listen": "127.0.0.1:1", "token": "bench-bench-bench-bench"}, // nobody listens there
		"central":     map[string]any{"url": url},
		"credentials": []map[string]any{{"store": shop.String(), "token": benchToken}},
		"stores":      []string{shop.String()},
	})
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "reconciled.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return err
	}
	mend, err := d.apply(ctx, named("random10k"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mend(ctx)) }()
	command := exec.CommandContext(ctx, binary, "reconcile", "--config", file)
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	if err := command.Run(); err != nil {
		return fmt.Errorf("reconcile: %w: %s", err, out.String())
	}
	usage, ok := command.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("the system does not tell a process's size")
	}
	f.add("merkle.rss.mb", float64(usage.Maxrss)/1024, "MB")
	return nil
}

// buildProgram builds reconciled into dir, as it is released.
func buildProgram(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "reconciled")
	if out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./cmd/reconciled").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	return binary, nil
}
