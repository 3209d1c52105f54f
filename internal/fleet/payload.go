package fleet

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// object is a payload in the making. Its values are nil, bool, string, number,
// int64, object or []any.
type object map[string]any

// number is the text of a JSON number: a decimal, exact, its scale kept.
type number string

// text is what Postgres prints for the object as jsonb: keys by length, then
// bytes; a space behind each comma and colon.
func (o object) text() json.RawMessage { return appendJSONB(nil, o) }

func appendJSONB(dst []byte, value any) []byte {
	switch v := value.(type) {
	case nil:
		return append(dst, "null"...)
	case bool:
		return strconv.AppendBool(dst, v)
	case int64:
		return strconv.AppendInt(dst, v, 10)
	case number:
		return append(dst, v...)
	case string:
		return appendJSONBString(dst, v)
	case []any:
		dst = append(dst, '[')
		for i, element := range v {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = appendJSONB(dst, element)
		}
		return append(dst, ']')
	case object:
		keys := make([]string, 0, len(v))
		for key := range v {
			keys = append(keys, key)
		}
		slices.SortFunc(keys, func(a, b string) int {
			return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
		})
		dst = append(dst, '{')
		for i, key := range keys {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = append(appendJSONBString(dst, key), ": "...)
			dst = appendJSONB(dst, v[key])
		}
		return append(dst, '}')
	default:
		panic("fleet: a payload holds a value of no JSON type")
	}
}

func appendJSONBString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= 0x20:
			dst = append(dst, c)
		case strings.IndexByte("\b\f\n\r\t", c) >= 0:
			dst = append(dst, '\\', "bfnrt"[strings.IndexByte("\b\f\n\r\t", c)])
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		}
	}
	return append(dst, '"')
}

// fixed is n units of 10^-scale with all its decimals: fixed(1250, 2) is 12.50.
func fixed(n int64, scale int) string {
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	digits := strconv.FormatInt(n, 10)
	if scale == 0 {
		return sign + digits
	}
	if len(digits) <= scale {
		digits = strings.Repeat("0", scale-len(digits)+1) + digits
	}
	return sign + digits[:len(digits)-scale] + "." + digits[len(digits)-scale:]
}

// plain is n units of 10^-scale the way a till writes it: 12.5, 3.
func plain(n int64, scale int) number {
	text := fixed(n, scale)
	if scale > 0 {
		text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	}
	return number(text)
}

// amount is n units of 10^-scale in one of the spellings that are seen: mostly a
// plain number, now and then a number with all decimals, or a string.
func (s *Shop) amount(n int64, scale int) any {
	switch s.rng.IntN(12) {
	case 0:
		return fixed(n, scale)
	case 1:
		return number(fixed(n, scale))
	default:
		return plain(n, scale)
	}
}
