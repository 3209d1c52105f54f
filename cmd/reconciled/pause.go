package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/lock"
)

// pauseCommand is `reconciled pause`. Without --for and --end it shows the store's
// pause. While there is one nobody writes the store's data: no heal, no round, no
// repair; at central, what the store sends is refused.
type pauseCommand struct {
	storeFlags
	For time.Duration `help:"Pause for this long, such as 2h, instead of a pause that there is."`
	End bool          `help:"End the pause now."`
	Why string        `help:"Why, for the record; needed to pause."`
	By  string        `help:"Who decides, for the record; the user that runs this when not given."`
}

// longestPause keeps a pause from being forgotten.
const longestPause = 7 * 24 * time.Hour

// pauseShown is what it shows.
type pauseShown struct {
	Store  uuid.UUID  `json:"store_id"`
	Paused bool       `json:"paused"`
	Until  *time.Time `json:"until,omitempty"`
	By     string     `json:"by,omitempty"`
	Why    string     `json:"why,omitempty"`
}

// Run works on the database itself, without the lock: a pause begins at once, and
// waits only for writes in flight.
func (k pauseCommand) Run(d *deps) error {
	switch {
	case k.For != 0 && k.End:
		return errors.New("--for and --end exclude each other")
	case k.For != 0 && (k.For < time.Second || k.For > longestPause):
		return fmt.Errorf("--for %s is not between 1s and %s", k.For, longestPause)
	case k.For != 0 && k.Why == "":
		return errors.New("--why is needed: the reason goes into the audit, and whoever meets the pause is told")
	}
	s, store, err := k.open(d, config.Local)
	if err != nil {
		return err
	}
	defer s.Close()
	pauses := postgres.NewPauses(s.db)
	var pause *lock.PausedError
	switch {
	case k.For == 0 && !k.End:
		pause, err = pauses.Get(d.ctx, store)
	default:
		if k.By, err = whoDecides(k.By); err != nil {
			return err
		}
		if k.End {
			err = pauses.End(d.ctx, store, k.By)
		} else {
			pause, err = pauses.Begin(d.ctx, store, k.For, k.By, k.Why)
		}
	}
	if err != nil {
		return err
	}
	return k.show(d, store, pause)
}

func (k pauseCommand) show(d *deps, store uuid.UUID, pause *lock.PausedError) error {
	shown := pauseShown{Store: store}
	if pause != nil {
		until := pause.Until.UTC()
		shown.Paused, shown.Until, shown.By, shown.Why = true, &until, pause.By, pause.Why
	}
	switch {
	case k.Output == "json":
		return printJSON(d.stdout, shown)
	case pause == nil:
		fmt.Fprintf(d.stdout, "store %s is not paused\n", store)
	default:
		fmt.Fprintf(d.stdout, "%s\n  it ends by itself; `reconciled pause --end` ends it now\n", pause.Error())
	}
	return nil
}
