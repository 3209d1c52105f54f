package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/lock"
)

// decideCommand is `reconciled event decide`. Without --keep it shows both contents of an
// event: exit 1, as nobody has decided yet.
type decideCommand struct {
	storeFlags
	Event string `arg:"" name:"event-id" help:"Event of which the two sides hold different contents."`
	Keep  string `help:"Whose content is right: here, or there for the other side's." enum:"here,there," default:""`
	Why   string `help:"What was found out, for the record; needed to decide."`
	By    string `help:"Who decides, for the record; the user that runs this when not given."`
}

// shownCopies is what it shows.
type shownCopies struct {
	Store uuid.UUID `json:"store_id"`
	postgres.Copies
}

// decided is what it shows when a decision was written down.
type decided struct {
	shownCopies
	Keep postgres.Keep  `json:"kept"`
	By   string         `json:"decided_by"`
	Heal *healer.Report `json:"heal,omitempty"` // after the other side's was taken over
}

// Run works on the database itself, beside the daemon: at a store or at central.
func (k decideCommand) Run(d *deps) error {
	if k.Keep != "" && k.Why == "" {
		return errors.New("--why is needed: what was found out goes into the audit")
	}
	events, err := eventIDs([]string{k.Event})
	if err != nil {
		return err
	}
	s, store, err := k.open(d, config.Local)
	if err != nil {
		return err
	}
	defer s.Close()
	if k.Keep != "" {
		return k.decide(d, s, store, events[0])
	}
	copies, err := postgres.NewConflicts(s.db).Copies(d.ctx, store, events[0])
	if err != nil {
		return err
	}
	shown := shownCopies{store, copies}
	if k.Output == "json" {
		err = printJSON(d.stdout, shown)
	} else {
		printCopies(d.stdout, shown)
	}
	if err == nil {
		err = exitError(exitDiffers)
	}
	return err
}

func printCopies(out io.Writer, c shownCopies) {
	fmt.Fprintf(out, "event %s %s, found %s: the copies differ in %s\n  here   %s\n  there  %s\n  %s\n",
		c.Event, c.Type, instant(c.Found), strings.Join(c.Differ, ", "), c.Here, c.There, c.Recommendation)
	fmt.Fprintf(out, "store %s: `reconciled event decide %s --store %[1]s --keep here|there --why TEXT` decides\n", c.Store, c.Event)
}

func (k decideCommand) decide(d *deps, s *site, store, event uuid.UUID) error {
	by, err := whoDecides(k.By)
	if err != nil {
		return err
	}
	if err := s.mayWrite(); err != nil {
		return err
	}
	result := decided{Keep: postgres.Keep(k.Keep), By: by}
	err = s.locked(d.ctx, store, "event decide", func(ctx context.Context, grant lock.Grant) error {
		copies, err := postgres.NewConflicts(s.db).Decide(ctx, grant, event, result.Keep, by, k.Why)
		if err != nil {
			return err
		}
		result.shownCopies = shownCopies{store, copies}
		if result.Keep == postgres.KeepHere {
			return nil
		}
		if result.Heal, err = healChanged(ctx, s, grant); err != nil {
			return fmt.Errorf("the decision is written down; heal what it changed: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if k.Output == "json" {
		return printJSON(d.stdout, result)
	}
	if result.Keep == postgres.KeepHere {
		fmt.Fprintf(d.stdout, "store %s: event %s keeps the content that it has here, decided by %s\n", store, event, by)
		fmt.Fprintf(d.stdout, "  where the other copy is, `reconciled event decide %s --store %s --keep there --why TEXT` takes this one over; until then a round says that the two differ\n", event, store)
		return nil
	}
	fmt.Fprintf(d.stdout, "store %s: event %s has the other side's content, decided by %s; what it said before is in conflict_audit_log\n", store, event, by)
	return printHeal(d.stdout, store, *result.Heal)
}
