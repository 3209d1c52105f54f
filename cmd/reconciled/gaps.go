package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/lock"
)

// gapsCommand is `reconciled gaps`: events that are not projected, and what people do
// about them. Its commands work on the database itself, beside the daemon.
type gapsCommand struct {
	List        gapsListCommand        `cmd:"" default:"withargs" help:"List events that are not projected, and why (default)."`
	Retry       gapsRetryCommand       `cmd:"" help:"Let the next heal try events again."`
	Dismiss     gapsDismissCommand     `cmd:"" help:"Leave a malformed event as it is: it is counted and listed no more."`
	Outstanding gapsOutstandingCommand `cmd:"" help:"List what the POS backend would have done beside the rows of healed events, or settle it."`
	Log         gapsLogCommand         `cmd:"" help:"Show all that was healed of one event."`
}

// gapsListCommand is `reconciled gaps list`: exit 0 when there are none but semantic
// gaps, else 1.
type gapsListCommand struct {
	storeFlags
	Class     string `help:"Only gaps of this class: actionable, waiting, blocked, semantic or poison." enum:"actionable,waiting,blocked,semantic,poison," default:""`
	Dismissed bool   `help:"Also malformed events that were dismissed."`
}

// How many gaps of a class are named, on a terminal and in JSON.
const (
	gapsShown  = 50
	gapsListed = 1000
)

// gapList is what it shows.
type gapList struct {
	Store  uuid.UUID                `json:"store_id"`
	Totals map[projection.Class]int `json:"totals"`
	Gaps   []postgres.OpenGap       `json:"gaps"` // the newest, at most 1000 of a class
}

// Run lists the gaps as the last heal left them.
func (k gapsListCommand) Run(d *deps) error {
	s, store, err := k.open(d, config.Local)
	if err != nil {
		return err
	}
	defer s.Close()
	book, classes, limit := postgres.NewGapBook(s.db), postgres.GapClasses, gapsShown
	if k.Class != "" {
		classes = []projection.Class{projection.Class(k.Class)}
	}
	if k.Output == "json" {
		limit = gapsListed
	}
	list := gapList{Store: store}
	if list.Totals, err = book.Counts(d.ctx, store); err != nil {
		return err
	}
	if list.Gaps, err = book.List(d.ctx, store, classes, limit, k.Dismissed); err != nil {
		return err
	}
	if k.Output == "json" {
		err = printJSON(d.stdout, list)
	} else {
		err = printGaps(d.stdout, list, classes)
	}
	if err != nil {
		return err
	}
	for _, class := range classes {
		if class != projection.Semantic && list.Totals[class] > 0 {
			return exitError(exitDiffers)
		}
	}
	return nil
}

func printGaps(out io.Writer, list gapList, classes []projection.Class) error {
	counts := make([]string, len(postgres.GapClasses))
	for i, class := range postgres.GapClasses {
		counts[i] = fmt.Sprintf("%d %s", list.Totals[class], class)
	}
	fmt.Fprintf(out, "store %s: %s\n", list.Store, strings.Join(counts, ", "))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	head := "EVENT\tTYPE\tCLASS\tSINCE\tWAITS FOR\tTRIES\tNEXT TRY\tWHY\n"
	shown := map[projection.Class]int{}
	for _, g := range list.Gaps {
		waits, next, why := "-", "-", cmp.Or(g.LastError, g.Reason)
		if g.WaitsTable != "" {
			waits = fmt.Sprintf("%s %s", g.WaitsTable, g.WaitsID.UUID)
		}
		if g.NextAttempt != nil && g.Class != projection.Poison && g.Class != projection.Semantic {
			next = instant(*g.NextAttempt)
		}
		if g.Dismissed != nil {
			why += fmt.Sprintf(" (dismissed by %s: %s)", g.Dismissed.By, g.Dismissed.Why)
		} else {
			shown[g.Class]++
		}
		fmt.Fprintf(w, "%s%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", head, g.Event, g.Type, g.Class, instant(g.Since), waits, g.Attempts, next, why)
		head = ""
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	for _, class := range classes {
		if more := list.Totals[class] - shown[class]; more > 0 {
			fmt.Fprintf(out, "… and %d more %s\n", more, class)
		}
	}
	if list.Totals[projection.Poison] > 0 {
		fmt.Fprintln(out, "  `reconciled gaps dismiss EVENT --why TEXT` leaves a malformed event as it is")
	}
	if list.Totals[projection.Blocked]+list.Totals[projection.Waiting]+list.Totals[projection.Actionable] > 0 {
		fmt.Fprintln(out, "  what waits is tried again as soon as the row is there; `reconciled gaps retry EVENT` lets the next heal try at once")
	}
	return nil
}

// instant prints a time for people.
func instant(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// gapsRetryCommand is `reconciled gaps retry`.
type gapsRetryCommand struct {
	storeFlags
	Events []string `arg:"" optional:"" name:"event-id" help:"Events to try again."`
	All    bool     `help:"All open gaps."`
	Class  string   `help:"With --all: only gaps of this class." enum:"actionable,waiting,blocked,semantic,poison," default:""`
	By     string   `help:"Who decides, for the record; the user that runs this when not given."`
}

// retriedList is what it shows.
type retriedList struct {
	Store uuid.UUID   `json:"store_id"`
	By    string      `json:"by"`
	Due   []uuid.UUID `json:"due"`
}

// Run makes gaps due.
func (k gapsRetryCommand) Run(d *deps) error {
	events, err := eventIDs(k.Events)
	switch {
	case err != nil:
		return err
	case k.All == (len(events) > 0):
		return errors.New("either event ids or --all is needed")
	case k.Class != "" && !k.All:
		return errors.New("--class goes with --all")
	}
	s, store, err := k.open(d, config.Local)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.mayWrite(); err != nil {
		return err
	}
	result := retriedList{Store: store, Due: []uuid.UUID{}}
	if result.By, err = whoDecides(k.By); err != nil {
		return err
	}
	err = s.locked(d.ctx, store, "gaps retry", func(ctx context.Context, grant lock.Grant) (err error) {
		result.Due, err = postgres.NewGapBook(s.db).Retry(ctx, grant, events, projection.Class(k.Class), result.By)
		return err
	})
	if err != nil {
		return err
	}
	if k.Output == "json" {
		return printJSON(d.stdout, result)
	}
	fmt.Fprintf(d.stdout, "store %s: %d gaps made due by %s\n", store, len(result.Due), result.By)
	if len(result.Due) > 0 {
		fmt.Fprintln(d.stdout, "  the daemon's next heal takes them up; `reconciled heal` makes one now")
	}
	return nil
}

// gapsDismissCommand is `reconciled gaps dismiss`.
type gapsDismissCommand struct {
	storeFlags
	Event string `arg:"" name:"event-id" help:"Malformed event."`
	Why   string `help:"Why it stays as it is, for the record; needed."`
	By    string `help:"Who decides, for the record; the user that runs this when not given."`
}

// dismissed is what it shows.
type dismissed struct {
	Store uuid.UUID `json:"store_id"`
	Event uuid.UUID `json:"event_id"`
	By    string    `json:"dismissed_by"`
	Why   string    `json:"why"`
}

// Run dismisses an event.
func (k gapsDismissCommand) Run(d *deps) error {
	event, err := eventID(k.Event)
	switch {
	case err != nil:
		return err
	case k.Why == "":
		return errors.New("--why is needed: the reason goes into the audit")
	}
	s, store, err := k.open(d, config.Local)
	if err != nil {
		return err
	}
	defer s.Close()
	result := dismissed{Store: store, Event: event, Why: k.Why}
	if result.By, err = whoDecides(k.By); err != nil {
		return err
	}
	err = s.locked(d.ctx, store, "gaps dismiss", func(ctx context.Context, grant lock.Grant) error {
		return postgres.NewGapBook(s.db).Dismiss(ctx, grant, event, result.By, k.Why)
	})
	if err != nil {
		return err
	}
	if k.Output == "json" {
		return printJSON(d.stdout, result)
	}
	fmt.Fprintf(d.stdout, "store %s: event %s dismissed by %s; `reconciled gaps retry %s` takes it up again\n", store, event, result.By, event)
	return nil
}

// gapsOutstandingCommand is `reconciled gaps outstanding`. Without --settle it lists:
// exit 0 when nothing is outstanding, else 1.
type gapsOutstandingCommand struct {
	storeFlags
	Settle []string `help:"Events whose accounting has been seen to."`
	Why    string   `help:"How it was settled, for the record; needed to settle."`
	By     string   `help:"Who decides, for the record; the user that runs this when not given."`
}

// outstandingList is what it shows.
type outstandingList struct {
	Store       uuid.UUID              `json:"store_id"`
	Total       int                    `json:"total"`
	Outstanding []postgres.Outstanding `json:"outstanding"` // the latest, at most 1000
}

// settledList is what it shows when it has settled some.
type settledList struct {
	Store   uuid.UUID   `json:"store_id"`
	By      string      `json:"settled_by"`
	Settled []uuid.UUID `json:"settled"`
}

// Run lists or settles.
func (k gapsOutstandingCommand) Run(d *deps) error {
	events, err := eventIDs(k.Settle)
	switch {
	case err != nil:
		return err
	case len(events) > 0 && k.Why == "":
		return errors.New("--why is needed: how it was settled goes into the audit")
	}
	s, store, err := k.open(d, config.Local)
	if err != nil {
		return err
	}
	defer s.Close()
	book := postgres.NewGapBook(s.db)
	if len(events) > 0 {
		return k.settle(d, book, store, events)
	}
	limit := gapsShown
	if k.Output == "json" {
		limit = gapsListed
	}
	list := outstandingList{Store: store}
	if list.Outstanding, list.Total, err = book.Outstanding(d.ctx, store, limit); err != nil {
		return err
	}
	if k.Output == "json" {
		err = printJSON(d.stdout, list)
	} else {
		err = printOutstanding(d.stdout, list)
	}
	if err == nil && list.Total > 0 {
		err = exitError(exitDiffers)
	}
	return err
}

func printOutstanding(out io.Writer, list outstandingList) error {
	if list.Total == 0 {
		fmt.Fprintf(out, "store %s: nothing is outstanding\n", list.Store)
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "EVENT\tTYPE\tSALE\tHEALED\tOUTSTANDING")
	for _, o := range list.Outstanding {
		sale := "-"
		if o.Sale.Valid {
			sale = o.Sale.UUID.String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", o.Event, o.Type, sale, instant(o.Healed), strings.Join(o.Tasks, ", "))
	}
	if more := list.Total - len(list.Outstanding); more > 0 {
		fmt.Fprintf(w, "… and %d more\n", more)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	fmt.Fprintf(out, "store %s: of %d events healed here, side effects of the POS backend are outstanding; when they are seen to, `reconciled gaps outstanding --settle EVENT --why TEXT`\n", list.Store, list.Total)
	return nil
}

func (k gapsOutstandingCommand) settle(d *deps, book *postgres.GapBook, store uuid.UUID, events []uuid.UUID) error {
	result := settledList{Store: store, Settled: events}
	var err error
	if result.By, err = whoDecides(k.By); err != nil {
		return err
	}
	if err := book.Settle(d.ctx, store, events, result.By, k.Why); err != nil {
		return err
	}
	if k.Output == "json" {
		return printJSON(d.stdout, result)
	}
	fmt.Fprintf(d.stdout, "store %s: %d events settled by %s\n", store, len(events), result.By)
	return nil
}

// gapsLogCommand is `reconciled gaps log`.
type gapsLogCommand struct {
	storeFlags
	Event string `help:"Event." required:""`
}

// healHistory is what it shows.
type healHistory struct {
	Store   uuid.UUID            `json:"store_id"`
	Event   uuid.UUID            `json:"event_id"`
	Entries []postgres.HealEntry `json:"entries"` // the oldest first
}

// Run shows an event's heal log.
func (k gapsLogCommand) Run(d *deps) error {
	event, err := eventID(k.Event)
	if err != nil {
		return err
	}
	s, store, err := k.open(d, config.Local)
	if err != nil {
		return err
	}
	defer s.Close()
	history := healHistory{Store: store, Event: event}
	if history.Entries, err = postgres.NewGapBook(s.db).HealLog(d.ctx, store, event); err != nil {
		return err
	}
	if k.Output == "json" {
		return printJSON(d.stdout, history)
	}
	for _, e := range history.Entries {
		run := "-"
		if e.Run.Valid {
			run = e.Run.UUID.String()
		}
		fmt.Fprintf(d.stdout, "%s  %s  %s  epoch %d  run %s\n  before %s\n  after  %s\n", instant(e.At), e.Type, e.Strategy, e.Epoch, run, e.Before, e.After)
	}
	fmt.Fprintf(d.stdout, "store %s: event %s was healed %d times\n", store, event, len(history.Entries))
	return nil
}

// eventIDs reads event ids in their canonical spelling.
func eventIDs(texts []string) ([]uuid.UUID, error) { return parseIDs("event", texts) }

func eventID(text string) (uuid.UUID, error) { return parseID("event", text) }

func parseIDs(what string, texts []string) ([]uuid.UUID, error) {
	ids := make([]uuid.UUID, len(texts))
	for i, text := range texts {
		var err error
		if ids[i], err = parseID(what, text); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

func parseID(what, text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil || len(text) != 36 {
		return id, fmt.Errorf("%s id %.40q is not a UUID", what, text)
	}
	return id, nil
}
