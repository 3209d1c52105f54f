package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// fields are what a call says: the parameters of its query, or the members of its body.
// Each is taken once; the first fault is kept until end, which also refuses what was not
// taken.
//
// An id is hex and dashes, in either case; braces, urn:uuid: and bare hex are refused.
type fields struct {
	api    *api
	call   *call
	what   string // parameter, member
	values map[string]any
	stored bool // the store was taken
	err    error
}

// query reads a GET's parameters, none of which may be given twice.
func (a *api) query(c *call) *fields {
	f := &fields{api: a, call: c, what: "parameter", values: map[string]any{}}
	given, err := url.ParseQuery(c.request.URL.RawQuery)
	if err != nil {
		f.fault("", "query: %v", err)
	}
	for name, values := range given {
		if len(values) > 1 {
			f.fault(name, "%.64q is given %d times", name, len(values))
		}
		f.values[name] = values[0]
	}
	return f
}

// body reads a POST's members. A parameter there is not known.
func (a *api) body(c *call) *fields {
	f := a.query(c)
	if f.end() == nil {
		f.values, f.err = members(c.text)
	}
	f.what = "member"
	return f
}

// members reads a JSON object, each name once, and nothing behind it. encoding/json
// alone would take the last of two, and names in another case.
func members(text []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return nil, bad("", "body: want a JSON object")
	}
	values := map[string]any{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, bad("", "body: %v", err)
		}
		name, _ := token.(string) // in an object there is no other
		if _, twice := values[name]; twice {
			return nil, bad(name, "body: %.64q is given twice", name)
		}
		var value any
		if err := dec.Decode(&value); err != nil {
			return nil, bad(name, "body: %v", err)
		}
		values[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, bad("", "body: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, bad("", "body: text after the object")
	}
	return values, nil
}

// fault keeps the first.
func (f *fields) fault(field, format string, args ...any) {
	if f.err == nil {
		f.err = bad(field, format, args...)
	}
}

// take takes a field out.
func (f *fields) take(name string) (value any, given bool) {
	value, given = f.values[name]
	delete(f.values, name)
	return value, given
}

// text takes a string.
func (f *fields) text(name string) (text string, given bool) {
	value, given := f.take(name)
	text, isText := value.(string)
	if given && !isText {
		f.fault(name, "%s is not a string", name)
	}
	return text, given
}

// store takes the store that the call is about.
func (f *fields) store() uuid.UUID {
	f.call.store, f.stored = f.id("store_id"), true
	return f.call.store
}

// id takes an id that must be given.
func (f *fields) id(name string) uuid.UUID {
	id := f.optionalID(name)
	if !id.Valid {
		f.fault(name, "%s is missing", name)
	}
	return id.UUID
}

func (f *fields) optionalID(name string) uuid.NullUUID {
	text, given := f.text(name)
	if !given {
		return uuid.NullUUID{}
	}
	return uuid.NullUUID{UUID: f.parseID(name, text), Valid: true}
}

func (f *fields) parseID(name, text string) uuid.UUID {
	id, err := uuid.Parse(text)
	if err != nil || len(text) != len("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx") {
		f.fault(name, "%s %.64q is not a UUID", name, text)
	}
	return id
}

// ids takes a list of different ids.
func (f *fields) ids(name string, most int) []uuid.UUID {
	value, given := f.take(name)
	list, isList := value.([]any)
	switch {
	case !given:
		return nil
	case !isList || len(list) == 0 || len(list) > most:
		f.fault(name, "%s is not a list of 1 to %d ids", name, most)
		return nil
	}
	ids := make([]uuid.UUID, 0, len(list))
	seen := make(map[uuid.UUID]bool, len(list))
	for _, element := range list {
		text, isText := element.(string)
		if !isText {
			f.fault(name, "%s has an element that is not a string", name)
		}
		id := f.parseID(name, text)
		if seen[id] {
			f.fault(name, "%s names %s twice", name, id)
		}
		seen[id] = true
		ids = append(ids, id)
	}
	return ids
}

// number takes a whole number in its shortest spelling.
func (f *fields) number(name string, least, most, otherwise int) int {
	text, given := f.text(name)
	if !given {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || strconv.Itoa(n) != text || n < least || n > most {
		f.fault(name, "%s %.64q is not a number from %d to %d", name, text, least, most)
	}
	return n
}

// choice takes one of a few words, "" when it is not given.
func (f *fields) choice(name string, of ...string) string {
	word, given := f.text(name)
	if given && !slices.Contains(of, word) {
		f.fault(name, "%s %.64q is none of %s", name, word, strings.Join(of, ", "))
	}
	return word
}

// flag takes true or false.
func (f *fields) flag(name string) bool {
	value, given := f.take(name)
	if f.what == "parameter" && (value == "true" || value == "false") {
		value = value == "true"
	}
	flag, isFlag := value.(bool)
	if given && !isFlag {
		f.fault(name, "%s is neither true nor false", name)
	}
	return flag
}

// why takes the reason of a decision, for the audit.
func (f *fields) why() string {
	why, given := f.text("why")
	if !given || !printable(why, 500) {
		f.fault("why", "why is needed: at most 500 printable characters on a line, for the audit")
	}
	return why
}

// end is the first fault: a field that is not as it should be, then one that nobody
// took, then a store that is not served.
func (f *fields) end() error {
	if len(f.values) > 0 {
		name := slices.Min(slices.Collect(maps.Keys(f.values)))
		f.fault(name, "%s %.64q is not known here", f.what, name)
	}
	if f.err == nil && f.stored && !f.api.daemon.Serves(f.call.store) {
		f.err = ErrUnknownStore
	}
	return f.err
}
