package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/lock"
)

// lostCommand is `reconciled event lost`: exit 0 when there is no lost update that
// nobody has restored, else 1.
type lostCommand struct {
	storeFlags
}

// How many lost updates are named, on a terminal and in JSON.
const (
	lostShown  = 50
	lostListed = 1000
)

// lostList is what it shows.
type lostList struct {
	Store uuid.UUID             `json:"store_id"`
	Total int                   `json:"total"`
	Lost  []postgres.LostUpdate `json:"lost"` // the latest, at most 1000
}

// Run lists lost updates as the last heal found them.
func (k lostCommand) Run(d *deps) error {
	s, store, err := k.open(d, config.Local)
	if err != nil {
		return err
	}
	defer s.Close()
	limit := lostShown
	if k.Output == "json" {
		limit = lostListed
	}
	list := lostList{Store: store}
	if list.Lost, list.Total, err = postgres.NewHealing(s.db).Lost(d.ctx, store, limit); err != nil {
		return err
	}
	if k.Output == "json" {
		err = printJSON(d.stdout, list)
	} else {
		err = printLost(d.stdout, list)
	}
	if err == nil && list.Total > 0 {
		err = exitError(exitDiffers)
	}
	return err
}

func printLost(out io.Writer, list lostList) error {
	if list.Total == 0 {
		fmt.Fprintf(out, "store %s: no lost updates\n", list.Store)
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "EVENT\tTYPE\tCREATED\tABOUT\tOVERWRITTEN BY")
	for _, l := range list.Lost {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s %s\t%s\n", l.Event, l.Type, instant(l.Created.Time()), l.EntityType, l.EntityID, winner(l))
	}
	if more := list.Total - len(list.Lost); more > 0 {
		fmt.Fprintf(w, "… and %d more\n", more)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	fmt.Fprintf(out, "store %s: %d lost updates; `reconciled event restore EVENT --dry-run` shows both contents\n", list.Store, list.Total)
	return nil
}

func winner(l postgres.LostUpdate) string {
	if !l.Winner.Valid {
		return "-"
	}
	return l.Winner.UUID.String()
}

// restorePlan is what `event restore --dry-run` shows.
type restorePlan struct {
	Store   uuid.UUID     `json:"store_id"`
	DryRun  bool          `json:"dry_run"`
	Release []uuid.UUID   `json:"release"`
	Restore []plannedLost `json:"restore"`
}

// plannedLost is a lost update and what the healer makes of the event.
type plannedLost struct {
	postgres.LostUpdate
	Class  projection.Class `json:"class"`
	Reason string           `json:"reason"`
}

// planRestore shows what would become of events. The healer plans from what was said,
// before a restoration as after it.
func planRestore(d *deps, s *site, flags storeFlags, store uuid.UUID, held []uuid.UUID, lost []postgres.LostUpdate) error {
	gaps := map[uuid.UUID]healer.Gap{}
	looking := healer.New(postgres.NewHealing(s.db).Around(lost), healer.Options{Grace: s.config.Heal.Grace, Patience: s.config.Heal.Patience})
	if _, err := looking.Look(d.ctx, store, true, func(g healer.Gap) { gaps[g.Event] = g }); err != nil {
		return err
	}
	plan := restorePlan{Store: store, DryRun: true, Release: held, Restore: []plannedLost{}}
	for _, l := range lost {
		p := plannedLost{LostUpdate: l, Class: projection.Done, Reason: "nothing to write"}
		if gap, found := gaps[l.Event]; found {
			p.Class, p.Reason = gap.Class, gap.Reason
		}
		plan.Restore = append(plan.Restore, p)
	}
	if flags.Output == "json" {
		if err := printJSON(d.stdout, plan); err != nil {
			return err
		}
		return exitError(exitDiffers)
	}
	for _, id := range plan.Release {
		fmt.Fprintf(d.stdout, "event %s: its deletion would be released\n", id)
	}
	for _, p := range plan.Restore {
		fmt.Fprintf(d.stdout, "event %s %s of %s %s, overwritten by %s\n  payload  %s\n  said     %s\n  healer   %s: %s\n",
			p.Event, p.Type, p.EntityType, p.EntityID, winner(p.LostUpdate), p.Payload, p.Said, p.Class, p.Reason)
	}
	fmt.Fprintf(d.stdout, "store %s: %d deletions would be released and %d lost updates restored; --yes does it\n", store, len(plan.Release), len(plan.Restore))
	return exitError(exitDiffers)
}

// restoreLost gives events their content back and heals what that changes.
func restoreLost(ctx context.Context, s *site, grant lock.Grant, lost []postgres.LostUpdate, by string) ([]postgres.LostUpdate, *healer.Report, error) {
	events := make([]uuid.UUID, len(lost))
	for i, l := range lost {
		events[i] = l.Event
	}
	restored, err := postgres.NewHealing(s.db).RestoreLost(ctx, grant, events, by)
	if err != nil {
		return nil, nil, err
	}
	report, err := healChanged(ctx, s, grant)
	if err != nil {
		return nil, nil, fmt.Errorf("%d lost updates are restored; heal them: %w", len(restored), err)
	}
	return restored, report, nil
}

// healChanged heals what was changed a moment ago.
func healChanged(ctx context.Context, s *site, grant lock.Grant) (*healer.Report, error) {
	if _, err := s.log.Pin(ctx, grant.Store); err != nil {
		return nil, err
	}
	report, err := s.healer.Run(ctx, grant, nil)
	return &report, err
}
