package projection

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

// opening is CashSessionOpened (events.md 3.8).
type opening struct {
	row Row
	at  *Near
}

func readOpening(e Event, p payload) shape {
	return opening{at: p.near("opened_at", e), row: Row{Sessions, map[string]any{
		"id": p.id("session_id"), "store_id": e.Store, "opened_by": actor(e), "opened_at": p.time("opened_at", e),
		"opening_amount_bs":  p.number("opening_amount_bs", money),
		"opening_amount_usd": p.number("opening_amount_usd", money),
		"note":               p.text("note"),
	}}}
}

func (o opening) asks(Event) Asks {
	said := []string{"opening_amount_bs", "opening_amount_usd"}
	if !o.at.Loose {
		said = append(said, "opened_at")
	}
	return Asks{Refs: []Ref{o.row.ref(), {Entries, o.row.ref().ID}}, Row: o.row.only(said...)}
}

func (o opening) plan(e Event, f Facts) Outcome {
	mine, refusal := f.owned(e, o.row.ref())
	switch {
	case refusal != nil:
		return *refusal
	case mine:
		return recount(f.standing(e, o.row), some(o.row.ref().ID), f)
	default:
		return write(Changes{Insert: &o.row, Counters: some(o.row.ref().ID)})
	}
}

// recount adds to what is planned of a session's event that its counters are set, where
// they are not what its entries add up to: the backend counts an entry that comes before
// its session for nothing.
func recount(out Outcome, session uuid.NullUUID, f Facts) Outcome {
	switch {
	case out.Class == Actionable:
		out.Changes.Counters = session
	case out.Class == Done && session.Valid && f.Counters[session.UUID]:
		return mend("the session's counters are not what its entries add up to",
			Changes{Update: &Update{Sessions, session.UUID, nil}, Counters: session})
	}
	return out
}

// closing is CashSessionClosed. A session is closed by the newest closing in the
// log, whatever came first: newest by what the makers say, never by when a row was
// written. A closing without a note keeps the note of the one before it.
type closing struct {
	session           uuid.UUID
	closedAt          velox.Millis
	closedBy          uuid.NullUUID
	expected, counted json.RawMessage // nil when NULL
	note              string          // "" when none
}

func readClosing(e Event, p payload) shape {
	p.time("closed_at", e) // for its errors
	at, _ := instant(p.members["closed_at"], e.CreatedAt)
	c := closing{session: p.id("session_id"), closedAt: at, closedBy: actor(e), note: p.textOr("note", "")}
	c.expected, _ = p.json("expected").(json.RawMessage)
	c.counted, _ = p.json("counted").(json.RawMessage)
	return c
}

func (c closing) asks(Event) Asks {
	return Asks{Refs: []Ref{{Sessions, c.session}, {Closings, c.session}}}
}

func (c closing) plan(e Event, f Facts) Outcome {
	if out := f.parent(e, Ref{Sessions, c.session}); out != nil {
		return *out
	}
	row := f.Sessions[c.session]
	if e.Online && row.Closed {
		return Outcome{Class: Done}
	}
	closings := closingsIn(e, c, f.Closings[c.session])
	last := closings[len(closings)-1]
	for i := len(closings) - 2; i >= 0 && last.note == ""; i-- {
		last.note = closings[i].note
	}
	if last.note == "" {
		last.note = row.Note
	}
	switch {
	case row.holds(last):
		return Outcome{Class: Done}
	case row.Closed && !slices.ContainsFunc(closings, func(c closing) bool { return c.closedAt == row.ClosedAt }):
		// Closed by something that is not in the log: not ours to overrule.
		return Outcome{Class: Semantic, Routine: true, Reason: "the session was closed by hand"}
	default:
		return mend("the session does not hold its last closing", Changes{Update: &Update{Sessions, c.session, last.set()}})
	}
}

// closingsIn are the closings of a session that can be read, this one among
// them, oldest first.
func closingsIn(e Event, c closing, log []Event) []closing {
	type dated struct {
		event   Event
		closing closing
	}
	all := []dated{{e, c}}
	for _, other := range log {
		if other.ID == e.ID || !other.vouched() {
			continue
		}
		intent, err := Read(other)
		if o, ok := intent.shape.(closing); err == nil && ok && o.session == c.session {
			all = append(all, dated{other, o})
		}
	}
	slices.SortFunc(all, func(a, b dated) int { return compareMade(a.event, b.event) })
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

// entry is CashLedgerEntryCreated. The counters of its session are the sums of its
// entries, so they can be set at any time. The online API writes no entry of its own,
// so every event is projected, wherever it was made.
type entry struct {
	row     Row
	session uuid.NullUUID
}

func readEntry(e Event, p payload) shape {
	n := entry{session: p.optionalID("cash_session_id")}
	n.row = Row{Ledger, map[string]any{
		"id": p.id("entry_id"), "store_id": e.Store, "device_id": e.Device, "seq": e.Seq, "event_id": e.ID,
		"vector_clock": e.VectorClock, "request_id": p.optionalID("request_id"), "entry_type": p.text("entry_type"),
		"amount_bs": p.number("amount_bs", money), "amount_usd": p.number("amount_usd", money),
		"currency": p.textOr("currency", "BS"), "cash_session_id": n.session,
		"sold_at": p.time("sold_at", e), "metadata": p.json("metadata"),
	}}
	return n
}

func (n entry) asks(Event) Asks {
	refs := []Ref{n.row.ref()}
	if n.session.Valid {
		refs = append(refs, Ref{Entries, n.session.UUID})
	}
	return Asks{Refs: refs, Row: n.row.only("entry_type", "amount_bs", "amount_usd", "currency", "cash_session_id", "sold_at")}
}

func (n entry) plan(e Event, f Facts) Outcome {
	mine, refusal := f.owned(e, n.row.ref())
	switch {
	case refusal != nil:
		return *refusal
	case !mine:
		return write(Changes{Insert: &n.row, Counters: n.session})
	}
	e.Online = false
	return recount(f.standing(e, n.row), n.session, f)
}
