package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
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
	s, err := openSite(d.ctx, c)
	if err != nil {
		return err
	}
	defer s.Close()
	if mode == config.Store {
		if err := s.openClient(d.ctx); err != nil {
			return err
		}
	}
	metrics := telemetry.NewMetrics(versionText())
	process, err := newDaemon(s, mode, logger, metrics)
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

func newDaemon(s *site, mode config.Mode, logger *zap.Logger, metrics *telemetry.Metrics) (*daemon.Daemon, error) {
	c, runs := s.config, postgres.NewRuns(s.db)
	var remote daemon.Remote
	if s.client != nil {
		remote = s.client
	}
	monitor := daemon.NewMonitor(postgres.NewHealth(s.log), remote, runs, health.Thresholds{
		CriticalGaps: int64(c.Health.CriticalGaps), CriticalNegativeStock: int64(c.Health.CriticalNegativeStock),
		CriticalOutboxDead: int64(c.Health.CriticalOutboxDead), CriticalConflictRate: int64(c.Health.CriticalConflictRate),
	}, metrics)
	var tasks []*daemon.Task
	for _, duty := range []struct {
		spec string
		make func(schedule) *daemon.Task
	}{
		{c.Schedule.Heal, func(at schedule) *daemon.Task { return daemon.Heal(s.log, s.healer, at) }},
		{c.Schedule.Reconcile, func(at schedule) *daemon.Task {
			if mode != config.Store {
				return nil
			}
			return daemon.Reconcile(s.log, s.client, c.Quiet().Until, at)
		}},
		{c.Schedule.HealFull, func(at schedule) *daemon.Task { return daemon.HealFull(s.log, s.healer, at) }},
		{c.Schedule.Snapshot, func(at schedule) *daemon.Task { return daemon.Snapshot(monitor, at) }},
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
	return daemon.New(s.locker, runs, monitor, tasks, logger, daemon.Options{
		Stores: s.stores, Owner: owner(), Metrics: metrics, Ping: s.db.Pool.Ping,
	}), nil
}

// schedule is cron's, named here so that the table above reads.
type schedule = interface{ Next(time.Time) time.Time }

// listeners are bound before anything runs, so that a port that is taken is an
// error at start.
func listeners(ctx context.Context, s *site, mode config.Mode, process *daemon.Daemon, logger *zap.Logger, metrics *telemetry.Metrics) ([]*server, error) {
	api, err := listen("operators", s.config.API.Listen, httpapi.New(process, s.config.API.Token, metrics.Handler()))
	if err != nil {
		return nil, fmt.Errorf("api.listen: %w", err)
	}
	if mode != config.CentralServer {
		return []*server{api}, nil
	}
	installation, err := s.db.Installation(ctx)
	if err != nil {
		return nil, errors.Join(err, api.listener.Close())
	}
	stores, err := listen("stores", s.config.Serve.Listen, central.NewServer(s.log, central.ServerOptions{
		Installation: installation, Tokens: s.config.Tokens(),
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
