package testkit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresOptions says where a cluster lives and how it is set.
type PostgresOptions struct {
	Dir      string            // empty: a temporary directory, removed by Close
	Port     int               // 0: any free one
	Settings map[string]string // laid over the defaults, which trade durability for speed
	BinDir   string            // empty: PATH, then /usr/lib/postgresql, newest first
}

// fastSettings suit tests: nothing survives a crash of the machine. A test of
// crashes sets fsync, synchronous_commit and full_page_writes to on.
var fastSettings = map[string]string{
	"fsync":              "off",
	"synchronous_commit": "off",
	"full_page_writes":   "off",
	"max_connections":    "200",
	"log_min_messages":   "warning",
	"timezone":           "UTC",
	"log_timezone":       "UTC",
}

// Postgres is a private cluster: superuser postgres, encoding UTF8, every
// role trusted over TCP on the loopback interface.
type Postgres struct {
	programs  programs
	dir       string
	temporary bool
	port      int
	settings  map[string]string
	proc      *process
}

// StartPostgres makes the cluster if Dir holds none, and starts it. ctx
// bounds the start, not the life of the server.
func StartPostgres(ctx context.Context, o PostgresOptions) (*Postgres, error) {
	progs, err := findPrograms(o.BinDir)
	if err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	p := &Postgres{programs: progs, dir: o.Dir, port: o.Port, settings: map[string]string{}}
	for _, from := range []map[string]string{fastSettings, o.Settings} {
		for name, value := range from {
			p.settings[name] = value
		}
	}
	if err := p.create(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start postgres: %w", err), p.Close())
	}
	if err := p.startSomewhere(ctx, o.Port); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Postgres) create(ctx context.Context) error {
	if p.dir == "" {
		dir, err := os.MkdirTemp("", "reconciled-pg-*")
		if err != nil {
			return err
		}
		p.dir, p.temporary = dir, true
	}
	dir, err := filepath.Abs(p.dir)
	if err != nil {
		return err
	}
	p.dir = dir
	if err := p.programs.mkdir(p.dir); err != nil {
		return err
	}
	if err := p.programs.run(ctx, "true", p.dir); err != nil {
		return fmt.Errorf("the user that runs the server cannot enter %s: %w", p.dir, err)
	}
	if _, err := os.Stat(filepath.Join(p.data(), "PG_VERSION")); err == nil {
		return nil
	}
	return p.programs.newCluster(ctx, p.data())
}

// startSomewhere tries other ports when the one that was free is taken between
// the look and the start. A port that was asked for is tried once.
func (p *Postgres) startSomewhere(ctx context.Context, asked int) error {
	var err error
	for range 5 {
		if asked == 0 {
			if p.port, err = freePort(); err != nil {
				return fmt.Errorf("start postgres: %w", err)
			}
		}
		err = p.Start(ctx)
		if err == nil || asked != 0 || !strings.Contains(err.Error(), "Address already in use") {
			return err
		}
	}
	return err
}

func (p *Postgres) data() string    { return filepath.Join(p.dir, "data") }
func (p *Postgres) logFile() string { return filepath.Join(p.dir, "postgres.log") }

// Start starts a stopped or killed cluster again, on the same port, and
// returns when it accepts connections.
func (p *Postgres) Start(ctx context.Context) error {
	if p.proc.running() {
		return nil
	}
	log, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	defer log.Close()

	args := []string{
		"-D", p.data(),
		"-c", "listen_addresses=127.0.0.1", "-c", "port=" + strconv.Itoa(p.port),
		"-c", "unix_socket_directories=",
	}
	for name, value := range p.settings {
		args = append(args, "-c", name+"="+value)
	}
	cmd := p.programs.command(filepath.Join(p.programs.binDir, "postgres"), p.dir, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if p.proc, err = startProcess(cmd); err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	if err := p.proc.waitReady(ctx, p.ready); err != nil {
		return errors.Join(fmt.Errorf("start postgres on port %d: %w: %s", p.port, err, tail(p.logFile())), p.Kill())
	}
	return nil
}

// ready reads the server's own lock file, as pg_ctl does: its first line is
// the process id, its eighth the state.
func (p *Postgres) ready() bool {
	f, err := os.Open(filepath.Join(p.data(), "postmaster.pid"))
	if err != nil {
		return false
	}
	defer f.Close()
	var lines []string
	for s := bufio.NewScanner(f); s.Scan(); {
		lines = append(lines, strings.TrimSpace(s.Text()))
	}
	return len(lines) >= 8 && lines[0] == strconv.Itoa(p.proc.pid()) && lines[7] == "ready"
}

// URL is a connection string for user and database.
func (p *Postgres) URL(user, database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(user), Host: loopback(p.port), Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// Addr is host:port, for a Proxy.
func (p *Postgres) Addr() string { return loopback(p.port) }

// Kill ends every process of the cluster with SIGKILL, as a crash would.
func (p *Postgres) Kill() error {
	if !p.proc.running() {
		return nil
	}
	// Backends leave the postmaster's process group, so each is killed by
	// itself; a stopped postmaster can neither fork nor clean up meanwhile.
	if err := p.proc.signal(syscall.SIGSTOP); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill postgres: %w", err)
	}
	children := childrenOf(p.proc.pid())
	for _, pid := range children {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err := p.proc.signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill postgres: %w", err)
	}
	<-p.proc.done
	// The next start refuses to run beside a survivor.
	for deadline := time.Now().Add(10 * time.Second); slices.ContainsFunc(children, alive); time.Sleep(pollEvery) {
		if time.Now().After(deadline) {
			return errors.New("kill postgres: a backend survived SIGKILL for 10 s")
		}
	}
	return nil
}

// Stop shuts the cluster down fast: transactions roll back, and a checkpoint
// is written.
func (p *Postgres) Stop(ctx context.Context) error {
	if !p.proc.running() {
		return nil
	}
	if err := p.proc.stop(ctx, syscall.SIGINT); err != nil {
		return fmt.Errorf("stop postgres: %w", err)
	}
	return nil
}

// Close kills the cluster and removes its directory if that is temporary.
func (p *Postgres) Close() error {
	err := p.Kill()
	if p.temporary {
		err = errors.Join(err, os.RemoveAll(p.dir))
	}
	return err
}

// CreateDatabase copies the database template, or template1 if it is empty.
// Nobody may be connected to the template.
func (p *Postgres) CreateDatabase(ctx context.Context, name, template string) error {
	if template == "" {
		template = "template1"
	}
	return p.Exec(ctx, "postgres", fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s",
		pgx.Identifier{name}.Sanitize(), pgx.Identifier{template}.Sanitize()))
}

// Exec runs sql, which may hold many statements, as the superuser.
func (p *Postgres) Exec(ctx context.Context, database, sql string) error {
	conn, err := pgx.Connect(ctx, p.URL("postgres", database))
	if err != nil {
		return fmt.Errorf("exec in database %s: %w", database, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		return fmt.Errorf("exec in database %s: %w", database, err)
	}
	return nil
}
