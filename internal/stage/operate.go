package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/httpapi"
)

// Health asks the node's daemon for its report.
func (n *Node) Health(ctx context.Context) (report health.Report, err error) {
	return report, n.get(ctx, n.API+"/sync/federation/health?store_id="+n.store.String(), &report)
}

// Begin starts a task through the API: auto-reconcile or heal. full is heal's.
func (n *Node) Begin(ctx context.Context, task string, full bool) (uuid.UUID, error) {
	body := map[string]any{"store_id": n.store}
	if full {
		body["full"] = true
	}
	var accepted httpapi.Run
	err := n.request(ctx, http.MethodPost, n.API+"/sync/federation/"+task, body, &accepted)
	return accepted.ID, err
}

// Run asks how a run goes.
func (n *Node) Run(ctx context.Context, id uuid.UUID) (run httpapi.Run, err error) {
	return run, n.get(ctx, n.API+"/sync/federation/runs/"+id.String(), &run)
}

// Await starts a task and follows it to its end. follow may be nil.
func (n *Node) Await(ctx context.Context, task string, full bool, follow func(httpapi.Run)) (httpapi.Run, error) {
	id, err := n.Begin(ctx, task, full)
	if err != nil {
		return httpapi.Run{}, err
	}
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		run, err := n.Run(ctx, id)
		if err != nil || run.State != "running" {
			return run, err
		}
		if follow != nil {
			follow(run)
		}
		select {
		case <-ctx.Done():
			return run, context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// ReadReport reads a run's report.
func ReadReport(run httpapi.Run, into any) error {
	text, err := json.Marshal(run.Report)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("read report of run %s: %w", run.ID, err)
	}
	return nil
}

// Report is ReadReport as a value.
func Report[T any](run httpapi.Run) (report T, err error) { return report, ReadReport(run, &report) }

// Command runs one of the program's other commands with the node's configuration,
// and returns what it printed and its exit code.
func (n *Node) Command(ctx context.Context, args ...string) (printed string, code int, err error) {
	cmd := exec.CommandContext(ctx, n.Process.binary, append([]string{"--config", n.Config}, args...)...)
	out, err := cmd.CombinedOutput()
	if exited := new(exec.ExitError); errors.As(err, &exited) && ctx.Err() == nil {
		return string(out), exited.ExitCode(), nil
	}
	return string(out), 0, err
}
