package projection

import (
	"encoding/json"
	"maps"
	"math/big"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

// Products and customers are created by one event and patched by others. Each
// column is that of the newest event that sets it, by what the makers say, never by
// when a row was written: a patch made offline before the row was there counts like
// any other. The creation is the base, whatever its time.

// patch is an event that creates or changes an entity.
type patch struct {
	entity   Ref
	creation bool
	set      map[string]any // columns, without the id
}

// as makes patches shapes of one kind.
func (p patch) asks(e Event) Asks {
	row := Row{p.entity.Table, maps.Clone(p.set)}
	row.Values["id"] = p.entity.ID
	delete(row.Values, "store_id")
	if p.entity.Table == Customers {
		row.Values["updated_at"] = stamp(e.CreatedAt)
	}
	return Asks{Refs: []Ref{p.entity}, Row: &row}
}

func (p patch) plan(e Event, f Facts) Outcome {
	mine, refusal := f.owned(e, p.entity)
	entity := f.Entities[p.entity]
	if entity == nil {
		entity = &Entity{}
	}
	switch {
	case refusal != nil:
		return *refusal
	case !mine && p.creation:
		return p.create(e, entity)
	case !mine:
		return *f.parent(e, p.entity)
	case len(f.Differs[e.ID].Columns) == 0:
		return Outcome{Class: Done}
	}
	whole := entity.fold(e)
	set, edited := map[string]any{}, false
	for column, won := range whole.won {
		switch {
		case same(won.value, entity.Columns[column]):
		case entity.stale(p.entity, column, won, whole):
			set[column] = won.value
		default:
			edited = true
		}
	}
	// A customer's row says when the newest of its events was made, or when it was edited.
	if p.entity.Table == Customers && !entity.editedAfter(p.entity, whole.newest) && (len(set) > 0 || !edited && slices.Contains(f.Differs[e.ID].Columns, "updated_at")) {
		set["updated_at"] = stamp(whole.newest)
	}
	differs := p.entity.String() + " differs in " + strings.Join(slices.Sorted(maps.Keys(set)), ", ")
	switch {
	case len(set) > 0 && slices.ContainsFunc(entity.History, func(o Event) bool { return o.ID != e.ID && !o.vouched() }):
		return Outcome{Class: Blocked, Reason: differs +
			", and an event that had a say in it does not match its own hash: see reconciled event evidence"}
	case len(set) > 0:
		return mend(differs, Changes{Update: &Update{p.entity.Table, p.entity.ID, set}})
	case edited:
		return Outcome{Class: Semantic, Routine: true, Reason: p.entity.String() + " was edited online"}
	default:
		return superseded
	}
}

// create makes the row as the whole log says it is.
func (p patch) create(e Event, entity *Entity) Outcome {
	whole := entity.fold(e)
	if whole.creator != e.ID {
		return superseded
	}
	values := map[string]any{"id": p.entity.ID}
	for column, won := range whole.won {
		values[column] = won.value
	}
	if p.entity.Table == Customers {
		values["updated_at"] = stamp(whole.newest)
	}
	return write(Changes{Insert: &Row{p.entity.Table, values}})
}

// folding is what a log says of an entity.
type folding struct {
	won     map[string]winner
	given   map[string][]winner // all that a column was ever given
	newest  velox.Millis        // event
	creator uuid.UUID           // the creation that stands
	of      map[uuid.UUID]bool
}

// winner is a column's value and the event that set it.
type winner struct {
	value any
	by    Event
}

// fold folds what the log says of the entity, as far as something vouches for it, and e.
func (n *Entity) fold(e Event) *folding {
	others := func(not uuid.UUID) []Event {
		return slices.DeleteFunc(slices.Clone(n.History), func(o Event) bool { return o.ID == not || !o.vouched() })
	}
	if n.folded == nil {
		n.folded = foldPatches(others(uuid.Nil))
	}
	if n.folded.of[e.ID] {
		return n.folded
	}
	return foldPatches(append(others(e.ID), e))
}

func foldPatches(events []Event) *folding {
	type dated struct {
		event Event
		patch patch
	}
	var all []dated
	for _, e := range events {
		if intent, err := Read(e); err == nil {
			if p, ok := intent.shape.(patch); ok {
				all = append(all, dated{e, p})
			}
		}
	}
	slices.SortFunc(all, func(a, b dated) int {
		if a.patch.creation != b.patch.creation {
			if a.patch.creation {
				return -1
			}
			return 1
		}
		return compareMade(a.event, b.event)
	})
	f := &folding{won: map[string]winner{}, given: map[string][]winner{}, newest: velox.MinMillis, of: map[uuid.UUID]bool{}}
	for _, d := range all {
		f.of[d.event.ID] = true
		f.newest = max(f.newest, d.event.CreatedAt)
		if d.patch.creation && f.creator != uuid.Nil {
			continue // the first creation stands
		}
		if d.patch.creation {
			f.creator = d.event.ID
		}
		for column, value := range d.patch.set {
			f.won[column] = winner{value, d.event}
			f.given[column] = append(f.given[column], f.won[column])
		}
	}
	return f
}

// stale says of a column that does not hold what its winner gave it whether the winner
// was never applied, rather than edited over online, which leaves no event: nothing has
// written the row since the winner was projected; or only projections have written it,
// and the column holds what another event gave it, or what the backend leaves there.
func (n *Entity) stale(entity Ref, column string, won winner, whole *folding) bool {
	if n.Fresh || isPlaceholder(entity, n.Columns) {
		return true
	}
	holdsOlder := left(column, n.Columns[column]) || slices.ContainsFunc(whole.given[column], func(given winner) bool {
		return same(given.value, n.Columns[column]) && n.over(given.by, won.by)
	})
	if entity.Table != Customers {
		return n.by(won.by.ID) || holdsOlder && slices.ContainsFunc(n.History, func(e Event) bool { return n.by(e.ID) })
	}
	last := n.lastProjected()
	if last == nil { // edited online at that time, over all that was made before
		return won.by.CreatedAt > n.UpdatedAt || left(column, n.Columns[column])
	}
	return compareMade(*last, won.by) <= 0 || holdsOlder
}

// lastProjected is the event of which a customer's row has its time, the oldest of its
// making: a projection leaves its event's time there. nil: it was edited online after.
func (n *Entity) lastProjected() (last *Event) {
	for i, e := range n.History {
		if e.CreatedAt == n.UpdatedAt && (last == nil || compareMade(e, *last) < 0) {
			last = &n.History[i]
		}
	}
	return last
}

// editedAfter says of a customer's row whether it was edited online later than an event
// was made.
func (n *Entity) editedAfter(entity Ref, made velox.Millis) bool {
	return !n.Fresh && !isPlaceholder(entity, n.Columns) && n.lastProjected() == nil && made < n.UpdatedAt
}

// over says whether a projection of one event can have replaced what another gave. Of a
// price that the backend has projected it is known: it never ignores a change of one.
func (n *Entity) over(giver, winner Event) bool {
	at, projected := n.Written[winner.ID]
	return winner.Type != velox.PriceChanged || !projected || n.Written[giver.ID] > at
}

// left says whether a column is as the backend leaves what it does not write: a price in
// the currency that a change did not name, and what it drops of customers.
func left(column string, value json.RawMessage) bool {
	switch column {
	case "price_bs", "price_usd":
		return same("0", value)
	case "document_id", "email", "credit_limit":
		return absent(value)
	default:
		return false
	}
}

// same compares a planned value with a column's JSON: numbers by value.
func same(value any, column json.RawMessage) bool {
	switch v := value.(type) {
	case nil:
		return absent(column)
	case string:
		if absent(column) {
			return false
		}
		if column[0] == '"' {
			return unquote(column) == v
		}
		want, ok := new(big.Rat).SetString(v)
		got, known := new(big.Rat).SetString(string(column))
		return ok && known && want.Cmp(got) == 0
	case bool:
		return string(column) == map[bool]string{true: "true", false: "false"}[v]
	case uuid.UUID:
		return unquote(column) == v.String()
	default:
		return false
	}
}

func isPlaceholder(entity Ref, columns map[string]json.RawMessage) bool {
	note := columns["note"]
	return entity.Table == Customers && !absent(note) && strings.HasPrefix(unquote(note), PlaceholderNote)
}
