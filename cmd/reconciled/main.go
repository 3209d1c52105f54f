// Command reconciled keeps a Velox POS store and its central server telling the
// same truth: it heals read models from the event log, reconciles the log with
// central's, and reports. `reconciled --help` lists its commands.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/httpapi"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/lock"
)

// Exit codes. 75 and 78 are sysexits.h's EX_TEMPFAIL and EX_CONFIG.
const (
	exitOK      = 0
	exitDiffers = 1 // compared, and not the same; or measured, and not healthy
	exitTrouble = 2 // could not be done or not be told
	exitHeld    = 75
	exitConfig  = 78
)

// version is set when the program is built for a release.
var version = ""

// heapGrowth is the garbage collector's target, in per cent: a store's server is
// small, and the daemon's heap seldom more than ten megabytes. GOGC sets another.
const heapGrowth = 20

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func environ() map[string]string {
	vars := map[string]string{}
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		vars[name] = value
	}
	return vars
}

// cli is the command line.
type cli struct {
	Config string `short:"c" help:"Configuration file." default:"/etc/reconciled/reconciled.yaml" type:"path" env:"RECONCILED_CONFIG"`

	Run         runCommand         `cmd:"" help:"Serve the stores of this database: heal, reconcile with central, report."`
	Central     centralCommand     `cmd:"" help:"Answer the stores, and heal central's own read models."`
	Reconcile   reconcileCommand   `cmd:"" help:"Compare a store with central now and exchange what is missing."`
	Diff        diffCommand        `cmd:"" help:"Show what a store and central differ in, without moving anything."`
	Verify      verifyCommand      `cmd:"" help:"Read both logs whole, digest them anew and compare: trusts no tree."`
	Heal        healCommand        `cmd:"" help:"Heal a store's read models now."`
	Gaps        gapsCommand        `cmd:"" help:"List events that are not projected, and decide about them."`
	Pause       pauseCommand       `cmd:"" help:"Stop all writing to a store's data for a while, for example for a POS upgrade."`
	Event       eventCommand       `cmd:"" help:"Decide about single events."`
	Stock       stockCommand       `cmd:"" help:"Hold cached stock against the movement ledger, and repair it."`
	Fiscal      fiscalCommand      `cmd:"" help:"Show fiscal numbers that are used twice, and what is wrong with their ranges; changes none."`
	Doctor      doctorCommand      `cmd:"" help:"Walk the runbook: what is wrong, what the daemon does about it, what to do now."`
	Alerts      alertsCommand      `cmd:"" aliases:"alert" help:"Show what people are told of, take it on, or test how they are told."`
	Outbox      outboxCommand      `cmd:"" help:"List what is left in the POS's outbox, and let the POS try it again."`
	Conflicts   conflictsCommand   `cmd:"" help:"List events with two contents, and what the POS resolved by itself."`
	Runs        runsCommand        `cmd:"" help:"List what the daemon did, or show one run."`
	Breaker     breakerCommand     `cmd:"" help:"Show the circuit breaker towards central, or reset it."`
	Health      healthCommand      `cmd:"" help:"Show a store's health, as the daemon sees it."`
	CheckConfig checkConfigCommand `cmd:"" help:"Check a configuration without starting anything."`
	Migrate     migrateCommand     `cmd:"" help:"Bring schema reconciled to this release, as the migration role."`
	Demo        demoCommand        `cmd:"" help:"Show it all working on private servers that it starts itself."`
	Version     versionCommand     `cmd:"" help:"Show the version."`
}

// deps is what a command gets.
type deps struct {
	ctx            context.Context
	environ        map[string]string
	stdout, stderr io.Writer
	config         string // path
}

// load reads the configuration for a mode.
func (d *deps) load(mode config.Mode) (*config.Config, error) {
	return config.Load(d.config, d.environ, mode)
}

// exitError carries an exit code whose reason has been told already.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// run is the program: it returns the exit code.
func run(ctx context.Context, args []string, environ map[string]string, stdout, stderr io.Writer) int {
	var commands cli
	exited := -1
	parser, err := kong.New(&commands, kong.Name("reconciled"), kong.Writers(stdout, stderr),
		kong.Description("Keeps a Velox POS store and its central server telling the same truth."),
		kong.Exit(func(code int) { exited = code }), kong.UsageOnError())
	if err != nil {
		fmt.Fprintln(stderr, "reconciled:", err)
		return exitTrouble
	}
	if path, ok := environ["RECONCILED_CONFIG"]; ok {
		commands.Config = path
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 {
		return exited // --help
	}
	if err != nil {
		fmt.Fprintf(stderr, "reconciled: %v\nrun `reconciled --help` for the commands\n", err)
		return exitTrouble
	}
	err = parsed.Run(&deps{ctx: ctx, environ: environ, stdout: stdout, stderr: stderr, config: commands.Config})
	return exitCode(err, stderr)
}

func exitCode(err error, stderr io.Writer) int {
	var code exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintln(stderr, "reconciled:", err)
	var heldAPI *httpapi.HeldError
	var pausedAPI *httpapi.PausedError
	switch {
	case errors.Is(err, lock.ErrHeld), errors.As(err, &heldAPI), errors.Is(err, lock.ErrPaused), errors.As(err, &pausedAPI):
		return exitHeld
	case errors.Is(err, config.ErrInvalid), errors.Is(err, errUnfit), errors.Is(err, errObserving), errors.Is(err, postgres.ErrSchemaVersion), errors.Is(err, postgres.ErrCapture):
		return exitConfig
	default:
		return exitTrouble
	}
}

// versionCommand is `reconciled version`.
type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run(d *deps) error {
	fmt.Fprintln(d.stdout, "reconciled", versionText())
	return nil
}

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				return "devel " + setting.Value[:min(12, len(setting.Value))]
			}
		}
	}
	return "devel"
}
