package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/user"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/lock"
)

// eventCommand is `reconciled event`: what a person decides about single events.
type eventCommand struct {
	Restore  restoreCommand  `cmd:"" help:"List deleted events that are held, or let them come back from the other side."`
	Evidence evidenceCommand `cmd:"" help:"List evidence of tampering, rot and journeys in time, or clear what was looked into."`
}

// restoreCommand is `reconciled event restore`. Without events it lists: exit 0
// when none is held, 1 when some are. With them it releases them.
type restoreCommand struct {
	storeFlags
	Events []string `arg:"" optional:"" name:"event-id" help:"Events to release."`
	All    bool     `help:"Release all that are held."`
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

// releasedList is what restore shows with events.
type releasedList struct {
	Store    uuid.UUID   `json:"store_id"`
	By       string      `json:"released_by"`
	Released []uuid.UUID `json:"released"`
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
	return k.release(d, s, store, events)
}

func (k restoreCommand) events() ([]uuid.UUID, error) {
	if k.All && len(k.Events) > 0 {
		return nil, errors.New("--all and event ids exclude each other")
	}
	events := make([]uuid.UUID, len(k.Events))
	for i, text := range k.Events {
		id, err := uuid.Parse(text)
		if err != nil || len(text) != 36 {
			return nil, fmt.Errorf("event id %.40q is not a UUID", text)
		}
		events[i] = id
	}
	return events, nil
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

func (k restoreCommand) release(d *deps, s *site, store uuid.UUID, events []uuid.UUID) error {
	result := releasedList{Store: store}
	var err error
	if result.By, err = whoDecides(k.By); err != nil {
		return err
	}
	err = untilFree(d.ctx, lockPatience, func() error {
		return s.locker.Do(d.ctx, lock.Request{Store: store, Run: uuid.New(), Owner: owner() + " (event restore)"}, func(ctx context.Context, grant lock.Grant) (err error) {
			result.Released, err = s.log.Release(ctx, grant, events, result.By)
			return err
		})
	})
	if err != nil {
		return err
	}
	if k.Output == "json" {
		return printJSON(d.stdout, result)
	}
	fmt.Fprintf(d.stdout, "store %s: %d deleted events released by %s\n", store, len(result.Released), result.By)
	if len(result.Released) > 0 {
		fmt.Fprintln(d.stdout, "  the store's next rounds bring them back from the other side; at the store, `reconciled reconcile` makes one now")
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
