package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/veloxpos/reconciled/daemon"
	"github.com/veloxpos/reconciled/internal/central"
	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/httpapi"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/telemetry"
	"github.com/veloxpos/reconciled/internal/velox"
)

// runCommand is `reconciled run`: the daemon of a store server.
type runCommand struct{}

// Run serves until the process is told to stop.
func (runCommand) Run(d *deps) error { return serve(d, config.Store) }

// centralCommand is `reconciled central`: the daemon beside the central backend.
type centralCommand struct{}

// Run serves until the process is told to stop.
func (centralCommand) Run(d *deps) error { return serve(d, config.CentralServer) }

// serve is both: a store's daemon reconciles, central's answers.
func serve(d *deps, mode config.Mode) error {
	c, err := d.load(mode)
	if err != nil {
		return err
	}
	logger, err := telemetry.NewLogger(d.stderr, c.Log.Level)
	if err != nil {
		return err
	}
	defer func() { _ = logger.Sync() }()
	told, err := outlets(c.Alerts, logger)
	if err != nil {
		return err
	}
	outage := daemon.NewOutage(place(c), told, logger)
	var s *site
	err = outage.Await(d.ctx, func(ctx context.Context) (err error) { s, err = openSite(ctx, c); return err }, away)
	if d.ctx.Err() != nil && err != nil {
		return nil // told to stop while it waited
	}
	if err != nil {
		return err
	}
	defer s.Close()
	// A broken capture is what a daemon has to tell people of: it starts, and compares nothing.
	if err := s.db.CheckCapture(d.ctx); errors.Is(err, postgres.ErrCapture) {
		logger.Error("nothing is compared until every change of the log is captured", zap.Error(err))
	} else if err != nil {
		return err
	}
	if mode == config.Store {
		if err := s.openClient(d.ctx); err != nil {
			return err
		}
	}
	metrics := telemetry.NewMetrics(versionText())
	process, err := newDaemon(s, mode, outage, told, logger, metrics)
	if err != nil {
		return err
	}
	servers, err := listeners(d.ctx, s, mode, process, logger, metrics)
	if err != nil {
		return err
	}

	all, ctx := errgroup.WithContext(d.ctx)
	all.Go(func() error { return process.Serve(ctx) })
	for _, server := range servers {
		all.Go(func() error { return server.serve(ctx) })
		logger.Info("listening", zap.String("for", server.name), zap.Stringer("address", server.listener.Addr()))
	}
	return all.Wait()
}

func newDaemon(s *site, mode config.Mode, outage *daemon.Outage, told []daemon.Outlet, logger *zap.Logger, metrics *telemetry.Metrics) (*daemon.Daemon, error) {
	c, runs := s.config, postgres.NewRuns(s.db)
	monitor := newMonitor(s, metrics)
	var tasks []*daemon.Task
	for _, duty := range []struct {
		spec string
		make func(schedule) *daemon.Task
	}{
		{c.Schedule.Heal, func(at schedule) *daemon.Task { return daemon.Heal(s.log, s.healer, at) }},
		{c.Schedule.Reconcile, func(at schedule) *daemon.Task {
			switch {
			case mode != config.Store:
				return nil
			case c.Observing():
				return daemon.Compare(s.log, s.client, at)
			}
			return daemon.Reconcile(s.log, s.client, c.Quiet().Until, at)
		}},
		{c.Schedule.HealFull, func(at schedule) *daemon.Task { return daemon.Sift(s.log, s.healer, at) }},
		{c.Schedule.Snapshot, func(at schedule) *daemon.Task { return daemon.Snapshot(monitor, at, postgres.NewAlerts(s.db).Tidy) }},
		{c.Schedule.Scrub, func(at schedule) *daemon.Task { return daemon.Scrub(s.log, at) }},
	} {
		at, err := config.ParseSchedule(duty.spec)
		if err != nil {
			return nil, err
		}
		if task := duty.make(at); task != nil {
			tasks = append(tasks, task)
		}
	}
	tasks = append(tasks, daemon.HealFull(s.log, s.healer))
	watch, every, err := newWatch(s, monitor, outage, told, logger, metrics)
	if err != nil {
		return nil, err
	}
	if !c.Observing() && c.Alerts.Screens {
		tasks = append(tasks, daemon.Screen(postgres.NewAlerts(s.db), screenChannel, every))
	}
	return daemon.New(s.locker, runs, monitor, tasks, logger, daemon.Options{
		Stores: s.stores, Owner: owner(), Metrics: metrics, Ping: s.db.Pool.Ping, Paused: postgres.NewPauses(s.db).Check,
		Watch: watch, WatchSchedule: every,
	}), nil
}

// newWatch makes what tells people, and says how often it looks.
func newWatch(s *site, monitor *daemon.Monitor, outage *daemon.Outage, told []daemon.Outlet, logger *zap.Logger, metrics *telemetry.Metrics) (*daemon.Watch, schedule, error) {
	c := s.config
	every, err := config.ParseSchedule(c.Schedule.Watch)
	if err != nil {
		return nil, nil, err
	}
	opts := daemon.WatchOptions{Outlets: told, Outage: outage, Metrics: metrics}
	next := every.Next(time.Now())
	opts.Gap = min(every.Next(next).Sub(next)/2, 30*time.Second) // also where it rests at night
	if !c.Observing() && c.Alerts.Screens {
		opts.Screen = &screenChannel
	}
	return daemon.NewWatch(monitor, postgres.NewAlerts(s.db), logger, opts), every, nil
}

// newMonitor measures a site's health: with central's, where there is a client to it.
func newMonitor(s *site, metrics *telemetry.Metrics) *daemon.Monitor {
	c := s.config
	opts := daemon.MonitorOptions{
		Mode: health.Mode(c.Mode), Thresholds: thresholds(c.Health), Redis: c.Redis.URL != "", Disks: c.Health.Disks, LatePeriods: c.Health.LatePeriods, Metrics: metrics,
	}
	if s.client != nil {
		opts.Remote = s.client
	}
	return daemon.NewMonitor(postgres.NewHealth(s.log), postgres.NewRuns(s.db), opts)
}

func thresholds(c config.Health) health.Thresholds {
	count := func(l config.Limit) health.Limit {
		return health.Limit{Degraded: limit(l.Degraded, -1, 1), Critical: limit(l.Critical, -1, 1)}
	}
	within := func(l config.LimitTime, unit time.Duration) health.Limit {
		return health.Limit{Degraded: limit(l.Degraded, 0, unit), Critical: limit(l.Critical, 0, unit)}
	}
	return health.Thresholds{
		Gaps: count(c.Gaps), NegativeStock: count(c.NegativeStock), OutboxPending: count(c.OutboxPending), OutboxDead: count(c.OutboxDead),
		FiscalDuplicates: count(c.FiscalDuplicates), ConflictRate: count(c.ConflictRate), DiskUsedPercent: count(c.DiskUsedPercent),
		LatencyMs: within(c.Latency, time.Millisecond), ClockSkewMs: within(c.ClockSkew, time.Millisecond),
		SilentSeconds: within(c.Silence, time.Second),
	}
}

// limit is a configured value in units, where never stands for none.
func limit[N int64 | time.Duration](value, never, unit N) int64 {
	if value == never {
		return health.Never
	}
	return int64(value / unit)
}

// schedule is cron's, named here so that the table above reads.
type schedule = interface{ Next(time.Time) time.Time }

// listeners are bound before anything runs, so that a port that is taken is an
// error at start.
func listeners(ctx context.Context, s *site, mode config.Mode, process *daemon.Daemon, logger *zap.Logger, metrics *telemetry.Metrics) ([]*server, error) {
	api, err := listen("operators", s.config.API.Listen, operators(s, process, logger, metrics))
	if err != nil {
		return nil, fmt.Errorf("api.listen: %w", err)
	}
	if mode != config.CentralServer {
		return []*server{api}, nil
	}
	installation, err := s.db.Installation(ctx)
	alerts, tokens := postgres.NewAlerts(s.db), s.config.Tokens()
	if err == nil {
		err = alerts.Await(ctx, slices.Collect(maps.Keys(tokens)))
	}
	if err != nil {
		return nil, errors.Join(err, api.listener.Close())
	}
	stores, err := listen("stores", s.config.Serve.Listen, central.NewServer(door{s.log, s.config.Observing()}, central.ServerOptions{
		Installation: installation, Tokens: tokens, Heard: alerts.Hear,
		Failed: func(call string, store velox.StoreID, err error) {
			logger.Error("call failed", zap.String("call", call), zap.Stringer("store", store), zap.Error(err))
		},
	}).Handler())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("serve.listen: %w", err), api.listener.Close())
	}
	stores.certFile, stores.keyFile = s.config.Serve.CertFile, s.config.Serve.KeyFile
	return []*server{api, stores}, nil
}

// operators is the API in front of a daemon.
func operators(s *site, process *daemon.Daemon, logger *zap.Logger, metrics *telemetry.Metrics) http.Handler {
	var breakers daemon.Breakers
	if s.client != nil {
		breakers = s.client
	}
	return httpapi.New(daemon.NewDesk(process, s.db, breakers, s.config.Observing()), httpapi.Options{
		Tokens: s.config.API.Tokens, Metrics: metrics.Handler(),
		Failed: func(r *http.Request, requestID string, err error) {
			logger.Error("request failed", zap.String("method", r.Method), zap.String("path", r.URL.Path), zap.String("request", requestID), zap.Error(err))
		},
	})
}

// server is an HTTP server bound to its address.
type server struct {
	name              string
	listener          net.Listener
	http              *http.Server
	certFile, keyFile string
}

func listen(name, address string, handler http.Handler) (*server, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return &server{name: name, listener: listener, http: &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 2 * time.Minute, WriteTimeout: 2 * time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
	}}, nil
}

// shutdownTimeout is how long requests in flight may take when the process stops.
const shutdownTimeout = 10 * time.Second

func (s *server) serve(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() {
		if s.certFile != "" {
			failed <- s.http.ServeTLS(s.listener, s.certFile, s.keyFile)
		} else {
			failed <- s.http.Serve(s.listener)
		}
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", s.name, err)
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := s.http.Shutdown(ending); err != nil {
		return errors.Join(fmt.Errorf("stop serving %s: %w", s.name, err), s.http.Close())
	}
	return nil
}
