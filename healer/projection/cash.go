package projection

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

// opening is CashSessionOpened (events.md 3.8).
type opening struct{ row Row }

func readOpening(e *velox.Event, p payload) shape {
	return opening{Row{Sessions, map[string]any{
		"id": p.id("session_id"), "store_id": e.Store, "opened_by": actor(e), "opened_at": p.time("opened_at", e),
		"opening_amount_bs":  p.number("opening_amount_bs", money),
		"opening_amount_usd": p.number("opening_amount_usd", money),
		"note":               p.text("note"),
	}}}
}

func (o opening) refs() []Ref { return []Ref{o.row.ref()} }

func (o opening) plan(e *velox.Event, f Facts) Outcome {
	if out := f.settled(e, o.row.ref()); out != nil {
		return *out
	}
	return write(Changes{Insert: &o.row})
}

// closing is CashSessionClosed. A session is closed by the newest closing in the
// log, whatever came first: newest by what the makers say, (created_at, device,
// seq), never by when a row was written. A closing without a note keeps the
// note of the one before it.
type closing struct {
	session           uuid.UUID
	closedAt          velox.Millis
	closedBy          uuid.NullUUID
	expected, counted json.RawMessage // nil when NULL
	note              string          // "" when none
}

func readClosing(e *velox.Event, p payload) shape {
	p.time("closed_at", e) // for its errors
	at, _ := instant(p.members["closed_at"], e.CreatedAt)
	c := closing{session: p.id("session_id"), closedAt: at, closedBy: actor(e), note: p.textOr("note", "")}
	c.expected, _ = p.json("expected").(json.RawMessage)
	c.counted, _ = p.json("counted").(json.RawMessage)
	return c
}

func (c closing) refs() []Ref { return []Ref{{Sessions, c.session}, {Closings, c.session}} }

func (c closing) plan(e *velox.Event, f Facts) Outcome {
	if out := f.parent(e, Ref{Sessions, c.session}); out != nil {
		return *out
	}
	row, closings := f.Sessions[c.session], closingsIn(e, c, f.Closings[c.session])
	last := closings[len(closings)-1]
	for i := len(closings) - 2; i >= 0 && last.note == ""; i-- {
		last.note = closings[i].note
	}
	if last.note == "" {
		last.note = row.Note
	}
	switch {
	case row.Closed && !slices.ContainsFunc(closings, func(c closing) bool { return c.closedAt == row.ClosedAt }):
		// Closed by something that is not in the log: not ours to overrule.
		return Outcome{Class: Done}
	case row.Closed && len(closings) == 1, row.holds(last):
		return Outcome{Class: Done}
	default:
		return write(Changes{Update: &Update{Sessions, c.session, last.set()}})
	}
}

// closingsIn are the closings of a session that can be read, this one among
// them, oldest first.
func closingsIn(e *velox.Event, c closing, log []velox.Event) []closing {
	type dated struct {
		event   *velox.Event
		closing closing
	}
	all := []dated{{e, c}}
	for i := range log {
		if log[i].ID == e.ID {
			continue
		}
		intent, err := Read(log[i])
		if other, ok := intent.shape.(closing); err == nil && ok {
			all = append(all, dated{&log[i], other})
		}
	}
	slices.SortFunc(all, func(a, b dated) int {
		return cmp.Or(
			cmp.Compare(a.event.CreatedAt, b.event.CreatedAt), bytes.Compare(a.event.Device[:], b.event.Device[:]),
			cmp.Compare(a.event.Seq, b.event.Seq), bytes.Compare(a.event.ID[:], b.event.ID[:]))
	})
	closings := make([]closing, len(all))
	for i, d := range all {
		closings[i] = d.closing
	}
	return closings
}

// holds reports whether the row says what this closing says.
func (s Session) holds(c closing) bool {
	return s.Closed && s.ClosedAt == c.closedAt && s.Note == c.note &&
		sameJSON(s.Expected, c.expected) && sameJSON(s.Counted, c.counted)
}

// sameJSON compares as jsonb does, to which 1.0 is 1.
func sameJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	if a == nil || b == nil {
		return false
	}
	textA, errA := velox.Canonical(a)
	textB, errB := velox.Canonical(b)
	return errA == nil && errB == nil && bytes.Equal(textA, textB)
}

func (c closing) set() map[string]any {
	set := map[string]any{
		"closed_at": stamp(c.closedAt), "closed_by": c.closedBy, "expected": nil, "counted": nil, "note": nil,
	}
	if c.expected != nil {
		set["expected"] = c.expected
	}
	if c.counted != nil {
		set["counted"] = c.counted
	}
	if c.note != "" {
		set["note"] = c.note
	}
	return set
}
