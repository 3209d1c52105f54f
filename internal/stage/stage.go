package stage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.yaml.in/yaml/v3"

	"github.com/veloxpos/reconciled/internal/testkit"
)

// Options of a Stage.
type Options struct {
	Binary string // reconciled
	Store  uuid.UUID
	// Durable turns fsync on, for tests that kill Postgres.
	Durable bool
	// TTL of the lock; the daemon's default when zero.
	TTL time.Duration
	// Schedule of both daemons by task, for example "heal": "@every 2s"; a task
	// that is not named runs at start and then hourly.
	Schedule map[string]string
	// Grace that a fresh event has before it is healed natively; next to none when
	// zero, since no POS backend runs on a stage.
	Grace time.Duration
	// Alerts is that part of the store's configuration; nil: the daemon's defaults.
	Alerts map[string]any
	Log    io.Writer // of the daemons; may be nil
}

// Stage is the chain: close it to end everything.
type Stage struct {
	Store, Central *Node
	Redis          *testkit.Redis
	// Line is what stands between the store and central.
	Line *testkit.Proxy

	opts     Options
	dir      string
	ports    map[int]bool
	cleanups []func() error
}

// Node is a database with its daemon.
type Node struct {
	*Process
	Name   string // store or central
	Server *testkit.Postgres
	Owner  *pgxpool.Pool // the POS's view of the database
	API    string        // base URL
	Config string        // path
	store  uuid.UUID
	redis  string // URL: one server, but a database for each node, as their locks are
	client *http.Client
}

const (
	// Database is the name of both nodes' database.
	Database = "velox"
	// AdminToken opens both daemons' API.
	AdminToken = "demo-admin-token"
	// StoreToken is the store's, between it and central.
	StoreToken = "demo-store-token"
)

// New starts the servers, prepares both databases with the store in them, and
// writes both configurations. The daemons are started by their nodes.
func New(ctx context.Context, opts Options) (_ *Stage, err error) {
	if opts.Log == nil {
		opts.Log = io.Discard
	}
	if opts.Grace == 0 {
		opts.Grace = time.Millisecond
	}
	s := &Stage{opts: opts, ports: map[int]bool{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.dir, err = os.MkdirTemp("", "reconciled-stage-"); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	s.cleanups = append(s.cleanups, func() error { return os.RemoveAll(s.dir) })
	if s.Redis, err = testkit.StartRedis(ctx, testkit.RedisOptions{}); err != nil {
		return nil, err
	}
	s.cleanups = append(s.cleanups, s.Redis.Close)
	serve, err := freePort(s.ports)
	if err != nil {
		return nil, err
	}
	if s.Line, err = testkit.NewProxy(fmt.Sprintf("127.0.0.1:%d", serve)); err != nil {
		return nil, err
	}
	s.cleanups = append(s.cleanups, s.Line.Close)
	credential := []map[string]string{{"store": opts.Store.String(), "token": StoreToken}}
	if s.Central, err = s.node(ctx, "central", map[string]any{
		"serve": map[string]string{"listen": fmt.Sprintf("127.0.0.1:%d", serve)}, "credentials": credential,
	}); err != nil {
		return nil, err
	}
	store := map[string]any{"central": map[string]string{"url": "http://" + s.Line.Addr()}, "credentials": credential}
	if opts.Alerts != nil {
		store["alerts"] = opts.Alerts
	}
	s.Store, err = s.node(ctx, "store", store)
	return s, err
}

// Close ends the daemons and the servers, the last first.
func (s *Stage) Close() error {
	var errs []error
	for _, cleanup := range slices.Backward(s.cleanups) {
		errs = append(errs, cleanup())
	}
	s.cleanups = nil
	return errors.Join(errs...)
}

func (s *Stage) node(ctx context.Context, name string, more map[string]any) (*Node, error) {
	settings := map[string]string{}
	if s.opts.Durable {
		settings = map[string]string{"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
	}
	server, err := testkit.StartPostgres(ctx, testkit.PostgresOptions{Settings: settings})
	if err != nil {
		return nil, err
	}
	s.cleanups = append(s.cleanups, server.Close)
	if err := Prepare(ctx, server, Database); err != nil {
		return nil, fmt.Errorf("prepare %s's database: %w", name, err)
	}
	n := &Node{Name: name, Server: server, store: s.opts.Store, redis: fmt.Sprintf("redis://%s/%d", s.Redis.Addr(), len(s.cleanups)%16), client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{}}}
	s.cleanups = append(s.cleanups, func() error { n.client.CloseIdleConnections(); return nil })
	if n.Owner, err = pgxpool.New(ctx, server.URL("velox", Database)); err != nil {
		return nil, fmt.Errorf("open %s's database: %w", name, err)
	}
	s.cleanups = append(s.cleanups, func() error { n.Owner.Close(); return nil })
	if n.Process, n.API, n.Config, err = s.Daemon(n, name, more); err != nil {
		return nil, err
	}
	return n, nil
}

// Daemon writes a configuration for a daemon on a node's database and makes its
// process: the node's own, or a second one that competes with it.
func (s *Stage) Daemon(n *Node, name string, more map[string]any) (process *Process, api, path string, err error) {
	port, err := freePort(s.ports)
	if err != nil {
		return nil, "", "", err
	}
	listen := fmt.Sprintf("127.0.0.1:%d", port)
	schedule := map[string]string{"heal": "@every 1h", "heal_full": "@every 1h", "reconcile": "@every 1h", "snapshot": "@every 1h"}
	for task, at := range s.opts.Schedule {
		schedule[task] = at
	}
	c := map[string]any{
		"database": map[string]any{"url": n.Server.URL("reconciled_runtime", Database), "migrate_url": n.Server.URL("reconciled_migrator", Database)},
		"redis":    map[string]any{"url": n.redis},
		"api":      map[string]any{"listen": listen, "token": AdminToken},
		"schedule": schedule,
		// Nobody projects here but the daemons, and the outbox looks as if somebody did.
		"heal": map[string]any{"grace": s.opts.Grace.String(), "strategy": "native"},
	}
	if s.opts.TTL > 0 {
		c["lock"] = map[string]any{"ttl": s.opts.TTL.String()}
	}
	for key, value := range more {
		c[key] = value
	}
	text, err := yaml.Marshal(c)
	if err != nil {
		return nil, "", "", fmt.Errorf("encode configuration: %w", err)
	}
	path = filepath.Join(s.dir, fmt.Sprintf("%s-%d.yaml", name, rand.IntN(1e9)))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, "", "", fmt.Errorf("write configuration: %w", err)
	}
	command := "run"
	if _, central := more["serve"]; central {
		command = "central"
	}
	api = "http://" + listen
	process = &Process{
		binary: s.opts.Binary, args: []string{command, "--config", path}, log: s.opts.Log,
		ready: func(ctx context.Context) error { return n.get(ctx, api+"/readyz", nil) },
	}
	s.cleanups = append(s.cleanups, func() error {
		if process.cmd == nil {
			return nil
		}
		return process.Kill()
	})
	return process, api, path, nil
}

// get asks a daemon and decodes its answer into into, where that is not nil.
func (n *Node) get(ctx context.Context, url string, into any) error {
	return n.request(ctx, http.MethodGet, url, nil, into)
}

// StatusError is an answer that is no success.
type StatusError struct {
	Status int
	Body   string
	Header http.Header
}

func (e *StatusError) Error() string { return fmt.Sprintf("status %d: %s", e.Status, e.Body) }

func (n *Node) request(ctx context.Context, method, url string, body, into any) error {
	var payload bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&payload).Encode(body); err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, url, &payload)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+AdminToken)
	request.Header.Set("Content-Type", "application/json")
	response, err := n.client.Do(request)
	if err != nil {
		return fmt.Errorf("ask %s: %w", n.Name, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("ask %s: %w", n.Name, err)
	}
	if response.StatusCode >= 300 {
		return &StatusError{response.StatusCode, string(answer), response.Header}
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("read %s's answer: %w", n.Name, err)
	}
	return nil
}
