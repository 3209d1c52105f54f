package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/merkle"
)

// evidenceCommand is `reconciled event evidence`. Without --clear or --clear-all it
// lists: exit 0 when there is none, 1 when there is some.
type evidenceCommand struct {
	storeFlags
	Clear    []int64 `help:"Numbers of the evidence that was looked into."`
	ClearAll bool    `help:"Clear all of it."`
	Why      string  `help:"What was found out, for the record; needed to clear."`
	By       string  `help:"Who decides, for the record; the user that runs this when not given."`
}

// evidenceShown bounds the list.
const evidenceShown = 50

// evidenceList is what it shows.
type evidenceList struct {
	Store    uuid.UUID           `json:"store_id"`
	Total    int                 `json:"total"`
	Evidence []postgres.Evidence `json:"evidence"` // the latest, at most 50
}

// clearedList is what it shows when it has cleared some.
type clearedList struct {
	Store   uuid.UUID `json:"store_id"`
	By      string    `json:"cleared_by"`
	Cleared []int64   `json:"cleared"`
}

// Run works on the database itself, beside the daemon: at a store or at central.
func (k evidenceCommand) Run(d *deps) error {
	clearing := len(k.Clear) > 0 || k.ClearAll
	switch {
	case k.ClearAll && len(k.Clear) > 0:
		return errors.New("--clear-all and --clear exclude each other")
	case clearing && k.Why == "":
		return errors.New("--why is needed: what was found out goes into the audit")
	}
	s, store, err := k.open(d, config.Local)
	if err != nil {
		return err
	}
	defer s.Close()
	if clearing {
		return k.clear(d, s, store)
	}
	list, total, err := s.log.Evidence(d.ctx, store, evidenceShown)
	if err != nil {
		return err
	}
	if k.Output == "json" {
		err = printJSON(d.stdout, evidenceList{Store: store, Total: total, Evidence: list})
	} else {
		err = printEvidence(d.stdout, store, list, total)
	}
	if err == nil && total > 0 {
		err = exitError(exitDiffers)
	}
	return err
}

func printEvidence(out io.Writer, store uuid.UUID, list []postgres.Evidence, total int) error {
	if total == 0 {
		fmt.Fprintf(out, "store %s: no open evidence\n", store)
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NUMBER\tKIND\tFOUND AT\tSLOT FROM\tEVENT\tEXPECTED\tFOUND\tDETAIL")
	for _, e := range list {
		slot, event := "-", "-"
		if e.Slot != nil {
			slot = time.UnixMilli(*e.Slot << merkle.SlotBits).UTC().Format(time.RFC3339)
		}
		if e.Event.Valid {
			event = e.Event.UUID.String()
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%.12s\t%.12s\t%s\n", e.ID, e.Kind, e.FoundAt.UTC().Format(time.RFC3339), slot, event, e.Expected, e.Found, e.Detail)
	}
	if more := total - len(list); more > 0 {
		fmt.Fprintf(w, "… and %d more\n", more)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	fmt.Fprintf(out, "store %s: %d pieces of evidence; when they are looked into, `reconciled event evidence --clear NUMBER --why TEXT`\n", store, total)
	return nil
}

func (k evidenceCommand) clear(d *deps, s *site, store uuid.UUID) error {
	result := clearedList{Store: store}
	var err error
	if result.By, err = whoDecides(k.By); err != nil {
		return err
	}
	err = s.locked(d.ctx, store, "event evidence", func(ctx context.Context, grant lock.Grant) (err error) {
		result.Cleared, err = s.log.Clear(ctx, grant, k.Clear, result.By, k.Why)
		return err
	})
	if err != nil {
		return err
	}
	if k.Output == "json" {
		return printJSON(d.stdout, result)
	}
	fmt.Fprintf(d.stdout, "store %s: %d pieces of evidence cleared by %s\n", store, len(result.Cleared), result.By)
	return nil
}
