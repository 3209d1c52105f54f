package projection

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

// The POS is loose about JSON types: amounts come as numbers or as strings, an
// empty string is no value, flags come as words. These are its conversions, done
// with decimals as exact text.

// scale is a numeric column's type: digits in all, and after the point.
type scale struct{ digits, point int }

var (
	money    = scale{18, 2}
	price    = scale{18, 4}
	quantity = scale{18, 3}
	rate     = scale{18, 6}
	integer  = scale{9, 0} // what surely fits an int column
)

// errNumber: the value is a number that its column cannot hold.
var errNumber = errors.New("does not fit")

var decimalLiteral = regexp.MustCompile(`^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$`)

// A literal longer than this is no amount of anything.
const longestNumber = 400

// number is ECMAScript's Number(x): nil where that is NaN. Infinity, an object
// and an array are errors. The decimal is exact: it never was a float.
func number(raw json.RawMessage) (*big.Rat, error) {
	text := string(raw)
	switch {
	case absent(raw), text == "false":
		return new(big.Rat), nil
	case text == "true":
		return big.NewRat(1, 1), nil
	case raw[0] == '{' || raw[0] == '[':
		return nil, errors.New("is not a number")
	case raw[0] == '"':
		text = strings.Trim(unquote(raw), " \t\n\v\f\r\u00a0\u2028\u2029\ufeff")
	}
	if text == "" {
		return new(big.Rat), nil
	}
	if len(text) > longestNumber && raw[0] == '"' {
		return nil, errNumber
	}
	if len(text) > 2 && text[0] == '0' && strings.ContainsRune("xXoObB", rune(text[1])) {
		if n, ok := new(big.Int).SetString(text, 0); ok && !strings.Contains(text, "_") {
			return new(big.Rat).SetInt(n), nil
		}
		return nil, nil
	}
	if strings.TrimLeft(text, "+-") == "Infinity" {
		return nil, errNumber
	}
	if !decimalLiteral.MatchString(text) {
		return nil, nil
	}
	// The double says whether the number is of a sane size: the exact decimal of
	// 1e999999999 would fill the memory.
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, errNumber
	}
	exact := new(big.Rat)
	if f != 0 {
		exact.SetString(text)
	}
	return exact, nil
}

// text prints a number as its column stores it: rounded to the scale, half away
// from zero, and zero without a sign.
func (s scale) text(n *big.Rat) (string, error) {
	text := n.FloatString(s.point)
	unsigned := strings.TrimPrefix(text, "-")
	whole, _, _ := strings.Cut(unsigned, ".")
	switch {
	case len(whole) > s.digits-s.point:
		return "", errNumber
	case strings.Trim(unsigned, "0.") == "":
		return unsigned, nil
	}
	return text, nil
}

// plain prints a number without rounding it: decimals are finite, so the exact
// text is too.
func plain(n *big.Rat) string {
	if n.IsInt() {
		return n.Num().String()
	}
	places, _ := n.FloatPrec()
	return n.FloatString(places)
}

// absent is what JSON has for no value: nothing or null.
func absent(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// falsy is what ECMAScript takes for false.
func falsy(raw json.RawMessage) bool {
	if absent(raw) || string(raw) == "false" || string(raw) == `""` {
		return true
	}
	if raw[0] == '-' || (raw[0] >= '0' && raw[0] <= '9') {
		n, err := number(raw)
		return err == nil && n.Sign() == 0
	}
	return false
}

// flag reads B: true, 1, or a word for yes.
func flag(raw json.RawMessage) bool {
	switch {
	case absent(raw):
		return false
	case raw[0] == '"':
		switch strings.ToLower(strings.TrimSpace(unquote(raw))) {
		case "1", "true", "t", "yes", "y":
			return true
		}
		return false
	case raw[0] >= '0' && raw[0] <= '9':
		n, err := number(raw)
		return err == nil && n.Cmp(big.NewRat(1, 1)) == 0
	default:
		return string(raw) == "true"
	}
}

// words prints a JSON scalar as ECMAScript's String(x) does; an object or array
// as its JSON.
func words(raw json.RawMessage) string {
	if raw[0] == '"' {
		return unquote(raw)
	}
	if canonical, err := velox.Canonical(raw); err == nil {
		return string(canonical)
	}
	return string(raw)
}

func unquote(raw json.RawMessage) string {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return string(raw)
	}
	return s
}

// The spellings of a time that the POS's makers send. One without a zone is
// taken as UTC.
var timeLayouts = []string{
	time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05Z07",
	"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02",
}

// instant reads T: a falsy value is the event's own time, a number milliseconds
// since 1970, a string a date.
func instant(raw json.RawMessage, event velox.Millis) (velox.Millis, error) {
	switch {
	case falsy(raw):
		return event, nil
	case raw[0] == '"':
		text := unquote(raw)
		for _, layout := range timeLayouts {
			if t, err := time.Parse(layout, text); err == nil {
				return velox.MillisOf(t), nil
			}
		}
		return 0, errors.New("is not a time")
	}
	n, err := number(raw)
	if raw[0] == 't' || err != nil || n == nil || n.Cmp(big.NewRat(int64(lastMillis), 1)) > 0 || n.Cmp(big.NewRat(int64(firstMillis), 1)) < 0 {
		return 0, errors.New("is not a time")
	}
	return velox.Millis(new(big.Int).Quo(n.Num(), n.Denom()).Int64()), nil
}

// The years 1 to 9999: every database, driver and report can print them.
var (
	firstMillis = velox.MillisOf(time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC))
	lastMillis  = velox.MillisOf(time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC))
)

// stamp prints an instant as a timestamptz reads it.
func stamp(at velox.Millis) string { return at.Time().Format("2006-01-02T15:04:05.000Z") }

// identifier reads a UUID of 36 characters and nothing around them.
func identifier(text string) (uuid.UUID, bool) {
	id, err := uuid.Parse(text)
	return id, err == nil && len(text) == 36
}

// quote shows a value in an error, cut to a length that a line can bear.
func quote(value string) string {
	const longest = 64
	if len(value) > longest {
		value = strings.ToValidUTF8(value[:longest], "") + "…"
	}
	return fmt.Sprintf("%q", value)
}

// show is quote for a JSON value as it stands.
func show(raw json.RawMessage) string {
	if len(raw) > 0 && raw[0] == '"' {
		return quote(unquote(raw))
	}
	const longest = 64
	raw = bytes.TrimSpace(raw)
	if len(raw) > longest {
		return strings.ToValidUTF8(string(raw[:longest]), "") + "…"
	}
	return string(raw)
}
