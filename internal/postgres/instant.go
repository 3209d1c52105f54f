package postgres

import (
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// The ends of timestamptz in milliseconds: 4714 BC and AD 294276. Outside them
// there are only the infinities, which ms() maps to the ends of int64.
const (
	firstInstant = -210866803200000
	lastInstant  = 9224318015999999
)

var (
	infinity         = pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}
	negativeInfinity = pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}
)

// notBefore is the first timestamptz whose ms() is at or more.
func notBefore(at int64) pgtype.Timestamptz {
	switch {
	case at == math.MinInt64:
		return negativeInfinity
	case at > lastInstant:
		return infinity
	default:
		return pgtype.Timestamptz{Time: time.UnixMilli(max(at, firstInstant)), Valid: true}
	}
}

// notAfter is the last timestamptz whose ms() is at or less.
func notAfter(at int64) pgtype.Timestamptz {
	switch {
	case at == math.MaxInt64:
		return infinity
	case at < firstInstant:
		return negativeInfinity
	default:
		return pgtype.Timestamptz{Time: time.UnixMilli(min(at, lastInstant)).Add(999 * time.Microsecond), Valid: true}
	}
}
