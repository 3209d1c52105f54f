package fleet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"
)

// fields is a decoded JSON object. It converts values by the rules that events
// are projected by.
type fields map[string]json.RawMessage

// text is a string, or a number's digits; "" for what is absent, null, false, 0.
func (f fields) text(name string) string {
	raw := f[name]
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	switch t := string(raw); {
	case t == "" || t == "null" || t == "false" || t == "0":
		return ""
	default:
		return t
	}
}

var uuidShape = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// id is a UUID in lower case; "" when it is none.
func (f fields) id(name string) string {
	if s := f.text(name); uuidShape.MatchString(s) {
		return strings.ToLower(s)
	}
	return ""
}

func (f fields) object(name string) fields {
	var o fields
	_ = json.Unmarshal(f[name], &o) // anything else is an empty object
	return o
}

func (f fields) list(name string) []fields {
	var l []fields
	_ = json.Unmarshal(f[name], &l) // anything else is an empty list
	return l
}

var truths = []string{"1", "true", "t", "yes", "y"}

// yes is the lenient truth of flags that many hands write.
func (f fields) yes(name string) bool {
	return slices.Contains(truths, strings.ToLower(strings.TrimSpace(f.text(name))))
}

// truthy is the truth of ECMAScript.
func (f fields) truthy(name string) bool { return f.text(name) != "" }

// decimal is an exact number.
type decimal struct{ big.Rat }

var numberShape = regexp.MustCompile(`^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$`)

// number is a JSON number or a string that spells one; 0 for all else.
func (f fields) number(name string) *decimal {
	d, _ := f.maybe(name)
	return d
}

func (f fields) maybe(name string) (*decimal, bool) {
	d := new(decimal)
	t := strings.TrimSpace(f.text(name))
	if string(f[name]) == "true" {
		t = "1"
	}
	if string(f[name]) == "0" {
		return d, true
	}
	if !numberShape.MatchString(t) {
		return d, false
	}
	_, ok := d.SetString(t)
	return d, ok
}

// at is the number with a column's scale, half rounded away from zero.
func (d *decimal) at(scale int) string {
	text := d.FloatString(scale)
	if strings.Trim(text, "-0.") == "" {
		return strings.TrimPrefix(text, "-")
	}
	return text
}

// rounded is the number as a column of the scale keeps it.
func (d *decimal) rounded(scale int) *decimal {
	r := new(decimal)
	r.SetString(d.at(scale))
	return r
}

// instant is a time in milliseconds, else the fallback.
func (f fields) instant(name, fallback string) string {
	t := f.text(name)
	if t == "" {
		return fallback
	}
	if strings.HasPrefix(string(f[name]), `"`) {
		for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
			if at, err := time.Parse(layout, t); err == nil {
				return fmt.Sprint(at.UnixMilli())
			}
		}
		return fallback
	}
	return f.number(name).at(0)
}

// canonical is a JSON text in one spelling: keys sorted, numbers exact.
func canonical(raw json.RawMessage) string {
	if len(raw) == 0 || string(raw) == "null" {
		return ""
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		return string(raw)
	}
	var b strings.Builder
	spell(&b, value)
	return b.String()
}

func spell(b *strings.Builder, value any) {
	switch v := value.(type) {
	case map[string]any:
		b.WriteByte('{')
		for i, key := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(b, "%q:", key)
			spell(b, v[key])
		}
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for i, element := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			spell(b, element)
		}
		b.WriteByte(']')
	case json.Number:
		if r, ok := new(big.Rat).SetString(v.String()); ok {
			b.WriteString(r.RatString())
			return
		}
		b.WriteString(v.String())
	default:
		text, _ := json.Marshal(v) // a string, a bool or nil
		b.Write(text)
	}
}
