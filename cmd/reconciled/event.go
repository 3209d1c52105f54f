package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/user"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/lock"
)

// eventCommand is `reconciled event`: what a person decides about single events.
type eventCommand struct {
	Restore  restoreCommand  `cmd:"" help:"List deleted events that are held, let them come back from the other side, or give lost updates their content back."`
	Decide   decideCommand   `cmd:"" help:"Show an event's two contents, or decide which one is right."`
	Lost     lostCommand     `cmd:"" help:"List lost updates: events whose content last write wins replaced with another's."`
	Evidence evidenceCommand `cmd:"" help:"List evidence of tampering, rot and journeys in time, or clear what was looked into."`
}

// restoreCommand is `reconciled event restore`. Without events it lists: exit 0 when
// no deletion is held, 1 when some are. With them it releases those that are held, and
// restores those that are lost updates; with --dry-run exit 1, when there is something
// to do.
type restoreCommand struct {
	storeFlags
	Events []string `arg:"" optional:"" name:"event-id" help:"Events to release or restore."`
	All    bool     `help:"Release all that are held."`
	DryRun bool     `help:"Show what would become of the events, and change nothing."`
	Yes    bool     `help:"Restore the lost updates among the events."`
	By     string   `help:"Who decides, for the record; the user that runs this when not given."`
}

// heldShown bounds the list.
const heldShown = 50

// heldList is what restore shows without events.
type heldList struct {
	Store uuid.UUID           `json:"store_id"`
	Total int                 `json:"total"`
	Held  []postgres.Deletion `json:"held"` // the latest, at most 50
}

// restoredList is what restore shows with events.
type restoredList struct {
	Store    uuid.UUID             `json:"store_id"`
	By       string                `json:"released_by"`
	Released []uuid.UUID           `json:"released"`
	Restored []postgres.LostUpdate `json:"restored,omitempty"`
	Heal     *healer.Report        `json:"heal,omitempty"` // after a restoration
}

// Run works on the database itself, beside the daemon: at a store or at central.
func (k restoreCommand) Run(d *deps) error {
	events, err := k.events()
	if err != nil {
		return err
	}
	s, store, err := k.open(d, config.Local)
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := s.log.Pin(d.ctx, store); err != nil { // what was deleted a moment ago is held too
		return err
	}
	if len(events) == 0 && !k.All {
		return k.list(d, s, store)
	}
	lost, err := postgres.NewHealing(s.db).LookLost(d.ctx, store, events)
	if err != nil {
		return err
	}
	held := slices.DeleteFunc(slices.Clone(events), func(id uuid.UUID) bool {
		return slices.ContainsFunc(lost, func(l postgres.LostUpdate) bool { return l.Event == id })
	})
	if err := k.known(d, s, store, held); err != nil {
		return err
	}
	switch {
	case k.DryRun:
		return planRestore(d, s, k.storeFlags, store, held, lost)
	case len(lost) > 0 && !k.Yes:
		return fmt.Errorf("event %s is a lost update: --dry-run shows what would be restored, --yes restores it", lost[0].Event)
	}
	if err := s.mayWrite(); err != nil {
		return err
	}
	return k.restore(d, s, store, held, lost)
}

// known names the first event that is neither held nor a lost update.
func (k restoreCommand) known(d *deps, s *site, store uuid.UUID, events []uuid.UUID) error {
	held, err := s.log.HeldAmong(d.ctx, store, events)
	if err != nil {
		return err
	}
	for _, id := range events {
		if !slices.Contains(held, id) {
			return fmt.Errorf("%w: %s, and it is no lost update either", postgres.ErrNotHeld, id)
		}
	}
	return nil
}

func (k restoreCommand) events() ([]uuid.UUID, error) {
	if k.All && len(k.Events) > 0 {
		return nil, errors.New("--all and event ids exclude each other")
	}
	if k.DryRun && (k.Yes || len(k.Events) == 0) {
		return nil, errors.New("--dry-run goes with event ids, and not with --yes")
	}
	return eventIDs(k.Events)
}

func (k restoreCommand) list(d *deps, s *site, store uuid.UUID) error {
	held, total, err := s.log.Held(d.ctx, store, heldShown)
	if err != nil {
		return err
	}
	if k.Output == "json" {
		err = printJSON(d.stdout, heldList{Store: store, Total: total, Held: held})
	} else {
		err = printHeld(d.stdout, store, held, total)
	}
	if err == nil && total > 0 {
		err = exitError(exitDiffers)
	}
	return err
}

func printHeld(out io.Writer, store uuid.UUID, held []postgres.Deletion, total int) error {
	if total == 0 {
		fmt.Fprintf(out, "store %s: no deleted event is held\n", store)
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "EVENT\tTYPE\tCREATED\tDELETED")
	for _, e := range held {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", e.Event, e.Type, e.Created.Time().Format(time.RFC3339), e.Deleted.UTC().Format(time.RFC3339))
	}
	if more := total - len(held); more > 0 {
		fmt.Fprintf(w, "… and %d more\n", more)
	}
	fmt.Fprintf(w, "store %s: %d deleted events are held; name those that are to come back, or --all\n", store, total)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// restore releases deletions (all when neither is named) and restores lost updates,
// whose slots are healed at once.
func (k restoreCommand) restore(d *deps, s *site, store uuid.UUID, held []uuid.UUID, lost []postgres.LostUpdate) error {
	result := restoredList{Store: store, Released: []uuid.UUID{}}
	var err error
	if result.By, err = whoDecides(k.By); err != nil {
		return err
	}
	err = s.locked(d.ctx, store, "event restore", func(ctx context.Context, grant lock.Grant) (err error) {
		if len(held) > 0 || k.All {
			if result.Released, err = s.log.Release(ctx, grant, held, result.By); err != nil {
				return err
			}
		}
		if len(lost) > 0 {
			result.Restored, result.Heal, err = restoreLost(ctx, s, grant, lost, result.By)
		}
		return err
	})
	if err != nil {
		return err
	}
	if k.Output == "json" {
		return printJSON(d.stdout, result)
	}
	if len(held) > 0 || k.All {
		fmt.Fprintf(d.stdout, "store %s: %d deleted events released by %s\n", store, len(result.Released), result.By)
	}
	if len(result.Released) > 0 {
		fmt.Fprintln(d.stdout, "  the store's next rounds bring them back from the other side; at the store, `reconciled reconcile` makes one now")
	}
	if result.Heal != nil {
		fmt.Fprintf(d.stdout, "store %s: %d lost updates restored by %s; what was overwritten is in conflict_audit_log\n", store, len(result.Restored), result.By)
		return printHeal(d.stdout, store, *result.Heal)
	}
	return nil
}

// whoDecides is the person for the record: who is named, or else who runs this.
func whoDecides(named string) (string, error) {
	if named != "" {
		return named, nil
	}
	who, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("--by is needed: %w", err)
	}
	return who.Username, nil
}

// locked does a short command's work under the store's lock, as soon as it is free.
func (s *site) locked(ctx context.Context, store uuid.UUID, purpose string, do func(context.Context, lock.Grant) error) error {
	return untilFree(ctx, lockPatience, func() error {
		return s.locker.Do(ctx, lock.Request{Store: store, Run: uuid.New(), Owner: fmt.Sprintf("%s (%s)", owner(), purpose)}, do)
	})
}

// lockPatience is how long a short command waits while another holds the lock.
const lockPatience = time.Minute

// untilFree tries again each second while the lock is held, as long as patience
// lasts.
func untilFree(ctx context.Context, patience time.Duration, do func() error) error {
	enough := time.NewTimer(patience)
	defer enough.Stop()
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for {
		err := do()
		if !errors.Is(err, lock.ErrHeld) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-enough.C:
			return err
		case <-again.C:
		}
	}
}
