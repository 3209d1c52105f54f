package fleet

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

// critical are the types that the server wants a delta_payload of.
var critical = []velox.Type{
	velox.SaleCreated, velox.StockReceived, velox.StockAdjusted, velox.CashSessionOpened,
	velox.CashSessionClosed, velox.DebtPaymentRecorded, velox.SaleVoided,
}

// reads is what the till's clock shows.
func (s *Shop) reads(t *till) time.Time {
	if t.dead {
		return time.Unix(0, 0).UTC().Add(s.now.Sub(s.opts.Start))
	}
	return s.now.Add(t.skew)
}

// stamp is the till's clock in milliseconds.
func (s *Shop) stamp(t *till) int64 { return s.reads(t).UnixMilli() }

// iso is the till's clock the way server code writes it.
func iso(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") }

// ring makes an event at a till, as the backend stores it, and queues it.
func (s *Shop) ring(t *till, typ velox.Type, payload object) *velox.Event {
	t.seq++
	if s.chance(40) {
		t.seq += s.between(1, 12) // rejected ones: a gap is normal
	}
	t.clock++
	content := payload.text()
	e := velox.Event{
		ID: s.id(), Store: s.opts.Store, Device: t.id, Seq: t.seq, Type: typ, Version: 1,
		CreatedAt: velox.MillisOf(s.reads(t)),
		Actor:     uuid.NullUUID{UUID: t.actor, Valid: true}, ActorRole: "cashier",
		Payload: content, VectorClock: object{t.id.String(): t.clock}.text(), Causal: []string{},
		ConflictStatus: velox.Resolved, Hash: mustHash(content),
	}
	if t.actor == s.ref.Profiles[0] {
		e.ActorRole = "owner"
	}
	if s.chance(200) {
		e.Actor.UUID = velox.NoActor // came by a relay that knew none
	}
	if slices.Contains(critical, typ) {
		e.Delta = content
	}
	return s.push(e)
}

// serve makes an event by the node's own online API: nothing to verify, no till.
func (s *Shop) serve(typ velox.Type, payload object) *velox.Event {
	content := payload.text()
	at := s.now.UnixMilli()
	e := velox.Event{
		ID: s.id(), Store: s.opts.Store, Device: velox.ServerDevice, Seq: at, Type: typ, Version: 1,
		CreatedAt: velox.Millis(at),
		Actor:     uuid.NullUUID{UUID: s.ref.Profiles[0], Valid: true}, ActorRole: "owner",
		Payload: content, VectorClock: object{velox.ServerDevice.String(): at}.text(), Causal: []string{},
		ConflictStatus: velox.Resolved,
	}
	if typ == velox.SaleVoided {
		e.Delta, e.Hash = content, mustHash(content)
	}
	return s.push(e)
}

func (s *Shop) push(e velox.Event) *velox.Event {
	s.pass(time.Duration(s.between(1, 400)) * time.Millisecond)
	s.queue = append(s.queue, e)
	return &s.queue[len(s.queue)-1]
}

// Overwritten is how a node stores e when a concurrent winner beat it: with the
// winner's whole payload. What e said is left in its delta, if it has one.
func Overwritten(e, winner velox.Event) velox.Event {
	e.Payload = winner.Payload
	e.ConflictStatus = velox.AutoResolved
	return e
}

// Relayed is e as the other node stores it when a relay has brought it: what a
// server-made event lacks is filled in, and its request id is gone.
func Relayed(e velox.Event) velox.Event {
	if !e.Actor.Valid {
		e.Actor = uuid.NullUUID{UUID: velox.NoActor, Valid: true}
	}
	if e.Device != velox.ServerDevice {
		return e
	}
	if slices.Contains(critical, e.Type) && e.Delta == nil {
		e.Delta = e.Payload
	}
	e.RequestID = uuid.NullUUID{}
	if e.Hash == "" {
		e.Hash = mustHash(e.Payload)
	}
	return e
}

// mustHash hashes a payload that this package made.
func mustHash(content json.RawMessage) string {
	hash, err := velox.PayloadHash(content)
	if err != nil {
		panic(err)
	}
	return hash
}
