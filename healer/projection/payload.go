package projection

import (
	"encoding/json"
	"fmt"
	"regexp"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

// payload reads the members of what an event said. The first member that cannot
// be read is remembered and named; reading goes on, so that a reader is a plain
// list of members.
type payload struct {
	members map[string]json.RawMessage
	at      string // where in the payload, for errors: "items[2]."
	err     *error
}

func open(said json.RawMessage) (payload, error) {
	p := payload{err: new(error)}
	if err := json.Unmarshal(said, &p.members); err != nil || p.members == nil {
		return p, fmt.Errorf("payload is not an object: %s", show(said))
	}
	return p, nil
}

func (p payload) failed() error { return *p.err }

func (p payload) fail(name, problem string) {
	if *p.err != nil {
		return
	}
	if absent(p.members[name]) {
		*p.err = fmt.Errorf("%s%s is missing", p.at, name)
		return
	}
	*p.err = fmt.Errorf("%s%s %s: %s", p.at, name, problem, show(p.members[name]))
}

// object is a member that should be an object; whatever else it is reads as one
// without members.
func (p payload) object(name string) payload {
	inner := payload{at: p.at + name + ".", err: p.err}
	_ = json.Unmarshal(p.members[name], &inner.members) // not an object: no members
	return inner
}

// member is an object that must be there.
func (p payload) member(name string) payload {
	inner := p.object(name)
	if inner.members == nil {
		p.fail(name, "is not an object")
	}
	return inner
}

// lines are the objects in an array that must not be empty.
func (p payload) lines(name string) []payload {
	lines := p.list(name)
	if len(lines) == 0 {
		p.fail(name, "is not a list of lines")
	}
	return lines
}

// list are the objects in an array.
func (p payload) list(name string) []payload {
	var array []json.RawMessage // null reads as one without lines, which no list says
	if err := json.Unmarshal(p.members[name], &array); err != nil || array == nil {
		p.fail(name, "is not a list of lines")
		return nil
	}
	lines := make([]payload, len(array))
	for i, raw := range array {
		lines[i] = payload{at: fmt.Sprintf("%s%s[%d].", p.at, name, i), err: p.err}
		if err := json.Unmarshal(raw, &lines[i].members); err != nil || lines[i].members == nil {
			p.fail(name, fmt.Sprintf("line %d is not an object", i))
		}
	}
	return lines
}

// id is a member that must be a UUID.
func (p payload) id(name string) uuid.UUID {
	id := p.optionalID(name)
	if !id.Valid {
		p.fail(name, "is not a UUID")
	}
	return id.UUID
}

// optionalID is a member that must be a UUID if there is one; "" is none.
func (p payload) optionalID(name string) uuid.NullUUID {
	raw := p.members[name]
	if falsy(raw) {
		return uuid.NullUUID{}
	}
	id, ok := identifier(words(raw))
	if !ok {
		p.fail(name, "is not a UUID")
	}
	return uuid.NullUUID{UUID: id, Valid: ok}
}

// looseID is a member that counts only when it is a UUID.
func (p payload) looseID(name string) uuid.NullUUID {
	if falsy(p.members[name]) {
		return uuid.NullUUID{}
	}
	id, ok := identifier(words(p.members[name]))
	return uuid.NullUUID{UUID: id, Valid: ok}
}

// text is S0: nil for a falsy value, else the value as text.
func (p payload) text(name string) any {
	if falsy(p.members[name]) {
		return nil
	}
	return words(p.members[name])
}

// textOr is text, or what to take where there is none.
func (p payload) textOr(name, otherwise string) string {
	if text, ok := p.text(name).(string); ok {
		return text
	}
	return otherwise
}

// needText is text that must be there.
func (p payload) needText(name string) string {
	text, ok := p.text(name).(string)
	if !ok {
		p.fail(name, "is empty")
	}
	return text
}

// json is the member as it stands, nil where there is none.
func (p payload) json(name string) any {
	if raw := p.members[name]; !absent(raw) {
		return raw
	}
	return nil
}

// number is N0, as the column's decimal text.
func (p payload) number(name string, as scale) string {
	n, err := number(p.members[name])
	if n == nil && err == nil {
		return "0"
	}
	if err == nil {
		var text string
		if text, err = as.text(n); err == nil {
			return text
		}
	}
	p.fail(name, err.Error())
	return "0"
}

// optionalNumber is NN: nil where there is no number.
func (p payload) optionalNumber(name string, as scale) any {
	raw := p.members[name]
	if absent(raw) || string(raw) == `""` {
		return nil
	}
	if n, err := number(raw); n == nil && err == nil {
		return nil
	}
	return p.number(name, as)
}

// amount is N0 as a JSON number, unrounded.
func (p payload) amount(name string) json.RawMessage {
	n, err := number(p.members[name])
	if err != nil {
		p.fail(name, err.Error())
	}
	if n == nil {
		return json.RawMessage("0")
	}
	return json.RawMessage(plain(n))
}

// time is T, as a timestamptz's text.
func (p payload) time(name string, e Event) string {
	at, err := instant(p.members[name], e.CreatedAt)
	if err == nil && (at < firstMillis || at > lastMillis) {
		err = fmt.Errorf("is no time of this calendar, and created_at is %d ms", e.CreatedAt)
	}
	if err != nil {
		p.fail(name, err.Error())
		return ""
	}
	return stamp(at)
}

// near is the time of a member that was read.
func (p payload) near(name string, e Event) *Near {
	at, _ := instant(p.members[name], e.CreatedAt)
	raw := p.members[name]
	return &Near{At: at, Loose: len(raw) > 0 && raw[0] == '"' && !zoned.MatchString(unquote(raw))}
}

// zoned matches times that name their zone, and dates, which are UTC.
var zoned = regexp.MustCompile(`(Z|[+-]\d\d(:?\d\d)?|^\d{4}-\d\d-\d\d)$`)

// created is the event's own time.
func (p payload) created(e Event) string {
	if e.CreatedAt < firstMillis || e.CreatedAt > lastMillis {
		if *p.err == nil {
			*p.err = fmt.Errorf("created_at is no time of this calendar: %d ms", e.CreatedAt)
		}
		return ""
	}
	return stamp(e.CreatedAt)
}

func (p payload) flag(name string) bool   { return flag(p.members[name]) }
func (p payload) truthy(name string) bool { return !falsy(p.members[name]) }
func (p payload) absent(name string) bool { return absent(p.members[name]) }

// actor is who made the event, if anybody.
func actor(e Event) uuid.NullUUID {
	if e.Actor.UUID == velox.NoActor {
		return uuid.NullUUID{}
	}
	return e.Actor
}

// above is a number above zero.
func (p payload) above(name string, as scale) string {
	if p.absent(name) {
		p.fail(name, "is missing")
		return "0"
	}
	n := p.number(name, as)
	if !positive(n) {
		p.fail(name, "is not above 0")
	}
	return n
}
