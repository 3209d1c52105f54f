// Package demo shows reconciled at work: a shop trades, things go wrong in every
// way the product exists for, and the audience sees how each is found and what
// becomes of it. Everything is real: two Postgres instances, Redis, a store's
// daemon and central's as processes of their own. What is claimed at the end is
// checked against the databases, by code that is not the daemon's.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/stage"
)

// events is how much the shop has traded: three weeks.
const events = 12_000

var shopID = uuid.MustParse("de300000-0000-4000-8000-000000000001")

// ErrUnmet: an expectation did not hold; the table says which.
var ErrUnmet = errors.New("not every expectation held")

// Options of a demo.
type Options struct {
	Once bool // end after the table; else the daemons stay up until ctx ends
	Out  io.Writer
}

// Run plays the demo. It fails with ErrUnmet when an expectation did not hold.
func Run(ctx context.Context, opts Options) (err error) {
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	d := &demo{out: newTeller(opts.Out), began: time.Now()}
	log, err := os.CreateTemp("", "reconciled-demo-*.log")
	if err != nil {
		return fmt.Errorf("make log file: %w", err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()

	d.out.scene("Two Postgres instances and a Redis, all private to this demo")
	d.stage, err = stage.New(ctx, stage.Options{Binary: binary, Store: shopID, Log: log, Schedule: map[string]string{
		"heal": "@every 5s", "reconcile": "@every 30s", "snapshot": "@every 5s",
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stage.Close()) }()
	for _, act := range []func(context.Context) error{d.trade, d.goWrong, d.foresee, d.compare, d.heal, d.account, d.compareAgain, d.verify, d.judge} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	met := d.table()
	d.out.line("The daemons' own words are in %s", filepath.Clean(log.Name()))
	if !opts.Once {
		d.stayUp(ctx)
	}
	if !met {
		return ErrUnmet
	}
	return nil
}

type demo struct {
	out   *teller
	began time.Time
	stage *stage.Stage
	shop  *fleet.Shop
	sides *fleet.Sides

	faults []*fault
	last   round
}

// fault is something that was planted, what is expected of it, and what was seen.
type fault struct {
	name     string
	expect   fleet.Expect
	planted  int
	found    string
	outcome  string
	problems []string
}

// trade lets the shop trade.
func (d *demo) trade(context.Context) error {
	start := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -30).Add(8 * time.Hour)
	d.shop = fleet.NewShop(fleet.Options{
		Seed: 20261123, Store: shopID, Start: start, Name: "Bodega La Esquina", ClockSkew: 5 * time.Minute, Conflicts: true,
	})
	d.sides = fleet.NewSides(d.shop, d.shop.Trade(events))
	d.out.scene("%s trades: %d events in %d days, three tills whose clocks are up to 5 minutes off",
		"Bodega La Esquina", events, int(d.shop.Now().Sub(start).Hours()/24)+1)
	return nil
}

// goWrong plants every fault, and leaves both databases as a bad week would.
func (d *demo) goWrong(ctx context.Context) error {
	d.out.scene("Things go wrong")
	for _, f := range []fleet.LogFault{
		fleet.Outage(fleet.Store, 300), fleet.Scattered(fleet.Store, 60),
		fleet.Outage(fleet.Central, 400), fleet.Scattered(fleet.Central, 60),
		fleet.Altered(fleet.Store), fleet.LostContent(fleet.Store), fleet.Twice(),
		fleet.Malformed(), fleet.UnknownProduct(), fleet.Oversold(), fleet.FiscalDuplicate(),
	} {
		expect, err := f.Plant(d.sides)
		if err != nil {
			return fmt.Errorf("plant %s: %w", f.Name, err)
		}
		d.planted(f.Name, expect)
	}
	for side, node := range map[fleet.Side]*stage.Node{fleet.Store: d.stage.Store, fleet.Central: d.stage.Central} {
		if err := d.fill(ctx, side, node); err != nil {
			return fmt.Errorf("fill %s: %w", side, err)
		}
	}
	super, err := pgxpool.New(ctx, d.stage.Store.Server.URL("postgres", "velox"))
	if err != nil {
		return fmt.Errorf("open the store's database: %w", err)
	}
	defer super.Close()
	for _, f := range []fleet.RowFault{
		fleet.SalesWithoutRows(25, false), fleet.SalesWithoutRows(10, true), fleet.EarlyVoids(5), fleet.VoidsIgnored(5),
		fleet.PaymentsMissing(5), fleet.DebtsMissing(3), fleet.MovementsMissing(8), fleet.SessionsLeftOpen(2),
		fleet.CustomersMissing(3), fleet.ProductsMissing(1), fleet.UpdatesLost(5),
		fleet.SalesWithoutItems(3), fleet.SalesWithoutMovements(3), fleet.SalesAltered(4), fleet.DiscountsDropped(3), fleet.LedgerMissing(4),
	} {
		expect, err := f.Plant(ctx, super, fleet.Store, shopID)
		if err != nil {
			return fmt.Errorf("plant %s: %w", f.Name, err)
		}
		d.planted(f.Name, expect)
	}
	return nil
}

func (d *demo) planted(name string, expect fleet.Expect) {
	f := &fault{name: name, expect: expect}
	for _, ids := range [][]uuid.UUID{expect.Fetched, expect.Restored, expect.Conflicts, expect.Agreed, expect.Healed, expect.Waiting, expect.Poison} {
		f.planted = max(f.planted, len(ids))
	}
	f.planted = max(f.planted, min(1, len(expect.Health)))
	d.faults = append(d.faults, f)
	d.out.line("  %-56s %4d", name, f.planted)
}

// fill stores a side's events as its backend left them, with their rows.
func (d *demo) fill(ctx context.Context, side fleet.Side, node *stage.Node) error {
	if err := d.shop.Reference().Insert(ctx, node.Owner); err != nil {
		return err
	}
	_, err := fleet.Insert(ctx, node.Owner, d.sides.At(side), fleet.InsertOptions{
		Outbox: fleet.OutboxProcessed, Status: "processed", Relayed: side == fleet.Central,
	})
	if err != nil {
		return err
	}
	if err := fleet.NewBackend(node.Owner, fleet.BackendOptions{}).ProjectAll(ctx, shopID); err != nil {
		return err
	}
	if _, err := node.Owner.Exec(ctx, `VACUUM ANALYZE`); err != nil {
		return fmt.Errorf("vacuum: %w", err)
	}
	return nil
}

// stayUp leaves the daemons to the audience.
func (d *demo) stayUp(ctx context.Context) {
	d.out.scene("Both daemons stay up; end with Ctrl-C")
	for _, n := range d.nodes() {
		d.out.line("  %-8s curl -H 'Authorization: Bearer %s' '%s/sync/federation/health?store_id=%s'", n.Name, stage.AdminToken, n.API, shopID)
		d.out.line("           reconciled --config %s health --store %s", n.Config, shopID)
		d.out.line("           psql '%s'", n.Server.URL("velox", "velox"))
	}
	<-ctx.Done()
}

func (d *demo) nodes() []*stage.Node { return []*stage.Node{d.stage.Store, d.stage.Central} }
