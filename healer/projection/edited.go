package projection

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

// What is edited online leaves no event. The row's own time tells: nothing but an edit
// has written it since the last of its projections.

// Writing is what is known of when a row was written.
type Writing struct {
	UpdatedAt velox.Millis // of the row
	Fresh     bool         // it was never written since it was made
	// Written is when events were projected, as far as that is written down.
	Written map[uuid.UUID]velox.Millis
}

// A projection's write and what is written down of it are not of one instant: the
// backend commits its rows before their status, a batch at a time.
const sameWrite = 10_000 // ms

// by says whether the row was not written since an event was projected.
func (w Writing) by(event uuid.UUID) bool {
	at, known := w.Written[event]
	return known && w.UpdatedAt <= at+sameWrite
}

// since says whether something was done at a time that lies behind every projection.
func (w Writing) since(at velox.Millis) bool {
	for _, written := range w.Written {
		if at <= written+sameWrite {
			return false
		}
	}
	return true
}

// Circumstance says of a column of sales that it may be edited online: it says who
// bought and sold, in which session, and what was noted. What was paid for what, and
// when, is as the event says.
func Circumstance(column string) bool {
	return slices.Contains([]string{"cash_session_id", "customer_id", "note", "sold_by_user_id"}, column)
}

// Sold is what is known of a sale's row that differs from its event in a circumstance.
type Sold struct {
	Writing
	// Left is what the last heal of the event wrote into the row, and what it left as it
	// was: after it the row's own time tells nothing.
	Left map[string]json.RawMessage
}

// edited says whether the column holds what somebody edited online.
func (s Sold) edited(column string, holds json.RawMessage) bool {
	left, known := s.Left[column]
	return !s.Fresh && s.since(s.UpdatedAt) || known && bytes.Equal(left, holds)
}

// edited are the columns that somebody has edited online.
func (s sale) edited(e Event, f Facts) (columns []string) {
	d := f.Differs[e.ID]
	for _, column := range d.Columns {
		if Circumstance(column) && !e.Online && f.Sold[e.ID].edited(column, d.Before[column]) {
			columns = append(columns, column)
		}
	}
	return columns
}
