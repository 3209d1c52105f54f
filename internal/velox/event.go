package velox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
)

// StoreID names a store, the tenant that every event belongs to.
type StoreID = uuid.UUID

// Ids that mean something else than an id.
var (
	// ServerDevice is the device_id of every event that a node's own online API
	// made, on every node. It is refused as an event id.
	ServerDevice = uuid.MustParse("00000000-0000-0000-0000-000000000001")
	// NoActor is what a relay writes where an event has no actor, and the id to
	// which synthetic sales collapse. It is read as "no actor" and refused as an
	// event id.
	NoActor = uuid.MustParse("00000000-0000-0000-0000-000000000002")
)

// Conflict statuses that the POS backend writes.
const (
	Resolved     = "resolved"
	AutoResolved = "auto_resolved"
)

// Event is one row of the event log: the envelope and its payloads.
//
// Payloads are jsonb's own text, byte for byte as Postgres prints it. That text
// is a fixed point between servers, so it is hashed and carried verbatim.
type Event struct {
	ID        uuid.UUID
	Store     StoreID
	Device    uuid.UUID
	Seq       int64
	Type      Type
	Version   int32
	CreatedAt Millis

	Actor     uuid.NullUUID
	ActorRole string

	Payload  json.RawMessage // what the backend would project; may have been overwritten
	Delta    json.RawMessage // delta_payload; nil when NULL
	Restored json.RawMessage // what reconciled.said holds for this event; nil when nothing

	VectorClock    json.RawMessage
	Causal         []string
	ConflictStatus string
	Hash           string // full_payload_hash; "" when NULL
	RequestID      uuid.NullUUID
}

// Said is what the device said: the content that is compared, transferred and
// projected. A copy restored from the other side comes first, then
// delta_payload, which the backend never overwrites, then payload.
func (e *Event) Said() json.RawMessage {
	switch {
	case e.Restored != nil:
		return e.Restored
	case e.Delta != nil && !emptyObject(e.Delta):
		return e.Delta
	default:
		return e.Payload
	}
}

// Lost reports whether this copy no longer holds what was said: last write wins
// replaced the payload and no delta kept the original.
func (e *Event) Lost() bool {
	if e.Restored != nil || e.Delta != nil || e.ConflictStatus != AutoResolved || e.Hash == "" {
		return false
	}
	return !hashes(e.Payload, e.Hash)
}

// Restores reports whether said is what the event's own hash was taken of, and
// so gives back what a Lost copy lost.
func (e *Event) Restores(said json.RawMessage) bool { return hashes(said, e.Hash) }

// Integrity is what an event's self-check says.
type Integrity int

const (
	// Intact: the content matches full_payload_hash, and payload is that content.
	Intact Integrity = iota
	// Overwritten: delta_payload matches the hash, payload says something else.
	Overwritten
	// LostContent: payload was replaced and the original is not on this node.
	LostContent
	// Unverifiable: there is no hash, or it covers nothing (a delta of {}).
	Unverifiable
	// Corrupt: nothing matches the hash and nothing explains why.
	Corrupt
	// GivenBack: reconciled.said holds what was said, from the other side by this hash or
	// by a person's decision; the row need not.
	GivenBack
)

// String is the integrity's name in reports.
func (i Integrity) String() string {
	return [...]string{"intact", "overwritten", "lost", "unverifiable", "corrupt", "given back"}[i]
}

// Verify checks the event against its own full_payload_hash.
func (e *Event) Verify() Integrity {
	switch {
	case e.Restored != nil:
		return GivenBack
	case e.Hash == "":
		return Unverifiable
	case e.Delta != nil && !hashes(e.Delta, e.Hash):
		return Corrupt
	case e.Delta != nil && emptyObject(e.Delta):
		return Unverifiable
	case e.Delta != nil && bytes.Equal(e.Delta, e.Payload):
		return Intact
	case e.Delta != nil:
		return Overwritten
	case hashes(e.Payload, e.Hash):
		return Intact
	case e.ConflictStatus == AutoResolved:
		return LostContent
	default:
		return Corrupt
	}
}

func hashes(content json.RawMessage, want string) bool {
	got, err := PayloadHash(content)
	return err == nil && got == want
}

func emptyObject(raw json.RawMessage) bool { return bytes.Equal(bytes.TrimSpace(raw), []byte("{}")) }

// ParseStoreID reads a store id in its canonical spelling: 36 characters, lower
// or upper case hex with dashes, nothing around them.
func ParseStoreID(s string) (StoreID, error) {
	id, err := uuid.Parse(s)
	if err != nil || len(s) != 36 {
		return uuid.Nil, fmt.Errorf("store_id %q is not a UUID", clip(s, 64))
	}
	return id, nil
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}

// Millis is an instant in milliseconds since 1970 UTC, the precision that event
// times have on every node.
type Millis int64

// What Postgres' timestamptz infinities become.
const (
	MinMillis Millis = math.MinInt64
	MaxMillis Millis = math.MaxInt64
)

// MillisOf rounds t down to the millisecond.
func MillisOf(t time.Time) Millis { return Millis(t.UnixMilli()) }

// Time is the instant in UTC.
func (m Millis) Time() time.Time { return time.UnixMilli(int64(m)).UTC() }
