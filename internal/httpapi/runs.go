package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// Runner starts tasks and knows their runs.
type Runner interface {
	// Start begins a task and returns once it holds the store's lock.
	Start(ctx context.Context, task string, store uuid.UUID, by string) (uuid.UUID, error)
	Run(ctx context.Context, id uuid.UUID) (Run, error)
	// Runs are a store's newest, of one task or, when task is "", of all.
	Runs(ctx context.Context, store uuid.UUID, task string, limit int) ([]Run, error)
}

// Run is a run as operators see it.
type Run struct {
	ID         uuid.UUID  `json:"runId"`
	Task       string     `json:"task"`
	Store      uuid.UUID  `json:"storeId"`
	Trigger    string     `json:"trigger"` // schedule, start, api, cli
	State      string     `json:"state"`   // running, succeeded, failed, held, interrupted
	Verdict    string     `json:"verdict,omitempty"`
	Error      string     `json:"error,omitempty"`
	StartedAt  time.Time  `json:"startedAt"`
	FinishedAt *time.Time `json:"finishedAt,omitempty"`
	Progress   any        `json:"progress,omitempty"`
	Report     any        `json:"report,omitempty"`
}

// RunList are a store's newest runs, without their reports.
type RunList struct {
	Store uuid.UUID `json:"storeId"`
	Runs  []Run     `json:"runs"`
}

// accepted is the answer to a task that was begun.
type accepted struct {
	Run    uuid.UUID `json:"runId"`
	Task   string    `json:"task"`
	Store  uuid.UUID `json:"storeId"`
	Status string    `json:"status"` // where to ask how it goes
}

func (a *api) reconcile(c *call) (int, any, error) {
	f := a.body(c)
	store := f.store()
	if err := f.end(); err != nil {
		return 0, nil, err
	}
	return a.start(c, "reconcile", store)
}

func (a *api) heal(c *call) (int, any, error) {
	f := a.body(c)
	store, task := f.store(), "heal"
	if f.flag("full") { // look at every event
		task = "heal-full"
	}
	if err := f.end(); err != nil {
		return 0, nil, err
	}
	return a.start(c, task, store)
}

func (a *api) start(c *call, task string, store uuid.UUID) (int, any, error) {
	run, err := a.daemon.Start(c.ctx(), task, store, c.by)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusAccepted, accepted{Run: run, Task: task, Store: store, Status: "/sync/federation/runs/" + run.String()}, nil
}

// tasks are those that runs are of.
var tasks = []string{"heal", "heal-full", "reconcile", "scrub", "sift", "snapshot"}

func (a *api) runs(c *call) (int, any, error) {
	f := a.query(c)
	store, task, limit := f.store(), f.choice("task", tasks...), f.number("limit", 1, 200, 50)
	if err := f.end(); err != nil {
		return 0, nil, err
	}
	list, err := a.daemon.Runs(c.ctx(), store, task, limit)
	return http.StatusOK, RunList{Store: store, Runs: some(list)}, err
}

func (a *api) run(c *call) (int, any, error) {
	f := a.query(c)
	id := f.parseID("id", c.request.PathValue("id"))
	if err := f.end(); err != nil {
		return 0, nil, err
	}
	run, err := a.daemon.Run(c.ctx(), id)
	return http.StatusOK, run, err
}
