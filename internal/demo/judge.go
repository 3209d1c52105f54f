package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/stage"
)

// judge looks into the databases, past the daemons, and holds every expectation
// against what it finds there.
func (d *demo) judge(ctx context.Context) error {
	d.out.scene("The databases are asked whether it is true")
	supers := map[fleet.Side]*pgxpool.Pool{}
	for side, node := range map[fleet.Side]*stage.Node{fleet.Store: d.stage.Store, fleet.Central: d.stage.Central} {
		pool, err := pgxpool.New(ctx, node.Server.URL("postgres", "velox"))
		if err != nil {
			return fmt.Errorf("open %s's database: %w", side, err)
		}
		defer pool.Close()
		supers[side] = pool
	}
	report, err := d.stage.Store.Health(ctx)
	if err != nil {
		return err
	}
	health, err := json.Marshal(report)
	if err != nil {
		return fmt.Errorf("encode health: %w", err)
	}
	d.out.line("  the store says it is %s, for %d reasons", report.OverallHealth, len(report.Reasons))
	for _, reason := range report.Reasons {
		d.out.line("    %-16s %s", reason.Code, reason.ES)
	}
	for _, f := range d.faults {
		if err := f.judge(ctx, supers, string(health)); err != nil {
			return err
		}
	}
	return d.fold(ctx, supers)
}

// wants are the questions to the databases: of these events, how many are as they
// should be?
func (f *fault) wants() []want {
	const stored = `SELECT count(*) FROM events WHERE event_id = ANY($1)`
	const conflicts = `SELECT count(DISTINCT event_id) FROM reconciled.conflict WHERE event_id = ANY($1) AND decided_at IS NULL`
	here, there := f.expect.Side, fleet.Store
	if here == fleet.Store {
		there = fleet.Central
	}
	healed := f.expect.Healed
	if len(f.expect.Fetched) > 0 {
		healed = nil // some rightly get no rows of their own: the fold below judges them
	}
	return []want{
		{f.expect.Fetched, here, stored, "events missing", "fetched, and projected"},
		{f.expect.Restored, here, `SELECT count(*) FROM reconciled.said WHERE event_id = ANY($1)`, "content lost", "content restored"},
		{f.expect.Conflicts, here, conflicts, "two contents", "both kept, named in health"},
		{f.expect.Conflicts, there, conflicts, "two contents", "both kept, named in health"},
		{
			f.expect.Agreed, fleet.Store, `SELECT count(*) FROM reconciled.exception WHERE event_id = ANY($1) AND kind = 'request_duplicate'`,
			"one act, two ids", "agreed, not sent again",
		},
		{healed, here, `SELECT count(DISTINCT event_id) FROM reconciled.heal_log WHERE event_id = ANY($1)`, "rows missing", "healed"},
		{f.expect.Waiting, here, `SELECT count(*) FROM reconciled.gap WHERE event_id = ANY($1) AND class IN ('waiting', 'blocked')`, "parent missing", "waits, named in health"},
		{f.expect.Poison, here, `SELECT count(*) FROM reconciled.quarantine WHERE event_id = ANY($1)`, "malformed", "quarantined, named in health"},
	}
}

type want struct {
	events  []uuid.UUID
	side    fleet.Side
	sql     string
	found   string
	outcome string
}

func (f *fault) judge(ctx context.Context, databases map[fleet.Side]*pgxpool.Pool, health string) error {
	for _, w := range f.wants() {
		if len(w.events) == 0 {
			continue
		}
		var n int
		if err := databases[w.side].QueryRow(ctx, w.sql, w.events).Scan(&n); err != nil {
			return fmt.Errorf("look for %s: %w", f.name, err)
		}
		if f.found == "" {
			f.found = fmt.Sprintf("%d %s", n, w.found)
		}
		switch {
		case f.outcome == "":
			f.outcome = w.outcome
		case !strings.Contains(f.outcome, w.outcome):
			f.outcome += ", " + w.outcome
		}
		if n != len(w.events) {
			f.problems = append(f.problems, fmt.Sprintf("%s: %d of %d %s", w.side, n, len(w.events), w.outcome))
		}
		if strings.HasSuffix(w.outcome, "named in health") && !strings.Contains(health, w.events[0].String()) {
			f.problems = append(f.problems, fmt.Sprintf("health does not name event %s", w.events[0]))
		}
	}
	for _, name := range f.expect.Health {
		if f.outcome == "" {
			f.found, f.outcome = "1 named", "named in health"
		}
		if !strings.Contains(health, name) {
			f.problems = append(f.problems, fmt.Sprintf("health does not name %q", name))
		}
	}
	return nil
}

// fold compares both read models with an independent fold of their logs.
func (d *demo) fold(ctx context.Context, databases map[fleet.Side]*pgxpool.Pool) error {
	for _, side := range []fleet.Side{fleet.Store, fleet.Central} {
		log, err := fleet.Read(ctx, databases[side], shopID)
		if err != nil {
			return err
		}
		rows, err := fleet.Load(ctx, databases[side], shopID)
		if err != nil {
			return err
		}
		diff := fleet.DiffUnsplit(fleet.Fold(log, d.shop.Reference()), rows)
		f := &fault{
			name: "the whole read model of " + string(side), planted: len(log),
			found: fmt.Sprintf("%d events folded anew", len(log)), outcome: fmt.Sprintf("%d rows differ", len(diff)),
		}
		f.problems = append(f.problems, diff[:min(3, len(diff))]...)
		d.faults = append(d.faults, f)
	}
	return nil
}
