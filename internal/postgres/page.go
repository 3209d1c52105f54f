package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// A page ends at 500 events or when they reach 1 MiB, whichever comes first.
const (
	pageEvents = 500
	pageBytes  = 1 << 20
)

// Page reads the next of what is wanted, in key order, behind after: events, and
// what was purged on purpose and is not to be had.
func (l *Log) Page(ctx context.Context, store velox.StoreID, want merkle.Want, after *merkle.Key) (reconcile.Page, error) {
	p := &pageReader{log: l, store: store, after: after, receivedSince: negativeInfinity}
	if len(want.Picks) > 0 {
		return p.picks(ctx, want)
	}
	return p.spans(ctx, want.Spans)
}

// freshMargin is how far back before the last agreement an event may have been
// received that was not in it: its transaction was open, or the clock was set.
const freshMargin = 5 * time.Minute

// Fresh is a Page of the events that were received since the last agreement, in
// slots that have changed since.
func (l *Log) Fresh(ctx context.Context, store velox.StoreID, after *merkle.Key) (reconcile.Page, error) {
	anchor, err := l.Anchor(ctx, store)
	if err != nil {
		return reconcile.Page{}, err
	}
	rows, err := l.db.Pool.Query(ctx, `SELECT slot FROM reconciled.worklist WHERE consumer = $1 AND store_id = $2 ORDER BY slot`, anchorConsumer, store)
	if err != nil {
		return reconcile.Page{}, fmt.Errorf("read changed slots: %w", err)
	}
	slots, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return reconcile.Page{}, fmt.Errorf("read changed slots: %w", err)
	}
	var spans []merkle.Span
	for _, run := range adjacent(slots) {
		spans = append(spans, merkle.Area{First: run.first, Last: run.last}.Span())
	}
	p := &pageReader{log: l, store: store, after: after, receivedSince: notBefore(anchor.At.Add(-freshMargin).UnixMilli())}
	return p.spans(ctx, spans)
}

// pageReader fills one page.
type pageReader struct {
	log           *Log
	store         velox.StoreID
	after         *merkle.Key
	receivedSince pgtype.Timestamptz

	page reconcile.Page
	size int
}

func (p *pageReader) spans(ctx context.Context, spans []merkle.Span) (reconcile.Page, error) {
	var left []merkle.Span
	for _, span := range spans {
		if p.after == nil || span.To.Compare(*p.after) > 0 {
			left = append(left, span)
		}
	}
	for rest := left; len(rest) > 0; {
		n := singles(rest)
		read := func() (bool, error) { return p.keys(ctx, rest[:n]) }
		if n == 0 {
			n, read = 1, func() (bool, error) { return p.span(ctx, rest[0]) }
		}
		full, err := read()
		rest = rest[n:]
		if err != nil {
			return reconcile.Page{}, err
		}
		if full {
			last := reconcile.Key(&p.page.Events[len(p.page.Events)-1])
			p.page.Next = &last
			break
		}
	}
	return p.page, p.gone(ctx, left)
}

// singles is how many spans at the beginning hold one key, as far as a page takes them.
func singles(spans []merkle.Span) (n int) {
	for n < min(len(spans), pageEvents+1) && spans[n].From == spans[n].To {
		n++
	}
	return n
}

// keys reads spans of one key each together.
func (p *pageReader) keys(ctx context.Context, spans []merkle.Span) (full bool, err error) {
	at, ids := make([]int64, len(spans)), make([]uuid.UUID, len(spans))
	for i, s := range spans {
		at[i], ids[i] = s.From.At, s.From.ID
	}
	rows, err := p.log.db.Pool.Query(ctx, `SELECT `+eventColumns+` FROM unnest($2::bigint[], $3::uuid[]) AS key (at, id)
		JOIN `+eventTables+` ON e.event_id = key.id
		WHERE e.store_id = $1 AND reconciled.ms(e.created_at) = key.at AND e.received_at >= $4
		ORDER BY reconciled.ms(e.created_at), e.event_id`, p.store, at, ids, p.receivedSince)
	if err != nil {
		return false, fmt.Errorf("read page: %w", err)
	}
	return p.take(rows)
}

// span goes through a span in pieces that an index can bound: the key's order has
// none, since ms() rounds, but created_at has.
func (p *pageReader) span(ctx context.Context, span merkle.Span) (full bool, err error) {
	if p.after != nil && span.From.Compare(*p.after) < 0 {
		span.From = *p.after
	}
	for {
		piece, more, err := p.piece(ctx, span, pageEvents+2)
		if err != nil {
			return false, err
		}
		full, err := p.read(ctx, piece)
		if full || err != nil || !more {
			return full, err
		}
		span.From = merkle.Key{At: piece.To.At + 1}
	}
}

// piece is the beginning of a span, up to the end of the millisecond of its n-th
// event; all of it, and no more, when there are fewer.
func (p *pageReader) piece(ctx context.Context, span merkle.Span, n int) (piece merkle.Span, more bool, err error) {
	var at int64
	err = p.log.db.Pool.QueryRow(ctx, `SELECT reconciled.ms(created_at) FROM public.events
		WHERE store_id = $1 AND created_at >= $2 AND created_at <= $3 ORDER BY created_at OFFSET $4 LIMIT 1`,
		p.store, notBefore(span.From.At), notAfter(span.To.At), n).Scan(&at)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return span, false, nil
	case err != nil:
		return span, false, fmt.Errorf("bound page: %w", err)
	case at >= span.To.At:
		return span, false, nil
	}
	last := merkle.Key{At: at}
	for i := range last.ID {
		last.ID[i] = 0xff
	}
	return merkle.Span{From: span.From, To: last}, true, nil
}

func (p *pageReader) read(ctx context.Context, span merkle.Span) (full bool, err error) {
	rows, err := p.log.db.Pool.Query(ctx, `SELECT `+eventColumns+` FROM `+eventTables+`
		WHERE e.store_id = $1 AND e.created_at >= $2 AND e.created_at <= $3
		  AND (reconciled.ms(e.created_at), e.event_id) >= ($4, $5) AND (reconciled.ms(e.created_at), e.event_id) <= ($6, $7)
		  AND e.received_at >= $9
		ORDER BY reconciled.ms(e.created_at), e.event_id LIMIT $8`,
		p.store, notBefore(span.From.At), notAfter(span.To.At),
		span.From.At, uuid.UUID(span.From.ID), span.To.At, uuid.UUID(span.To.ID), pageEvents+2-len(p.page.Events), p.receivedSince)
	if err != nil {
		return false, fmt.Errorf("read page: %w", err)
	}
	return p.take(rows)
}

// take adds rows of eventColumns, in key order, until the page is full.
func (p *pageReader) take(rows pgx.Rows) (full bool, err error) {
	defer rows.Close()
	for rows.Next() {
		e, err := scanEvent(rows)
		if err != nil {
			return false, err
		}
		if p.after != nil && reconcile.Key(&e).Compare(*p.after) <= 0 {
			continue
		}
		p.size += len(e.Said()) + len(e.VectorClock)
		if n := len(p.page.Events); n == pageEvents || (n > 0 && p.size > pageBytes) {
			return true, nil
		}
		p.page.Events = append(p.page.Events, e)
	}
	if err := rows.Err(); err != nil {
		return false, fmt.Errorf("read page: %w", err)
	}
	return false, nil
}

// gone adds the purges in the spans, as far as the page goes. Where they are too many
// for it, it ends with them.
func (p *pageReader) gone(ctx context.Context, spans []merkle.Span) error {
	n := len(spans)
	fromAt, fromID, toAt, toID := make([]int64, n), make([]uuid.UUID, n), make([]int64, n), make([]uuid.UUID, n)
	for i, s := range spans {
		if p.after != nil && p.after.Compare(s.From) > 0 {
			s.From = *p.after
		}
		if p.page.Next != nil && p.page.Next.Compare(s.To) < 0 {
			s.To = *p.page.Next
		}
		fromAt[i], fromID[i], toAt[i], toID[i] = s.From.At, s.From.ID, s.To.At, s.To.ID
	}
	rows, err := p.log.db.Pool.Query(ctx, `SELECT g.event_id, g.created_ms
		FROM unnest($2::bigint[], $3::uuid[], $4::bigint[], $5::uuid[]) AS span (from_at, from_id, to_at, to_id)
		CROSS JOIN LATERAL (SELECT d.event_id, d.created_ms FROM `+purgedTables+`
			AND (d.created_ms, d.event_id) >= (span.from_at, span.from_id) AND (d.created_ms, d.event_id) <= (span.to_at, span.to_id)
			AND d.created_ms >= span.from_at AND d.created_ms <= span.to_at AND d.deleted_at >= $7) g
		ORDER BY g.created_ms, g.event_id LIMIT $6`, p.store, fromAt, fromID, toAt, toID, pageEvents+1, p.receivedSince)
	if err != nil {
		return fmt.Errorf("read purges: %w", err)
	}
	purged, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (k merkle.Key, err error) { return k, row.Scan(&k.ID, &k.At) })
	if err != nil {
		return fmt.Errorf("read purges: %w", err)
	}
	if len(purged) > pageEvents {
		purged = purged[:pageEvents]
		last := purged[pageEvents-1]
		p.page.Events = slices.DeleteFunc(p.page.Events, func(e velox.Event) bool { return reconcile.Key(&e).Compare(last) > 0 })
		p.page.Next = &last
	}
	for _, k := range purged {
		if p.after == nil || k.Compare(*p.after) > 0 {
			p.page.Gone = append(p.page.Gone, purgedHere(k))
		}
	}
	return nil
}

func purgedHere(k merkle.Key) reconcile.Outcome {
	return reconcile.Outcome{
		Event: k.ID, At: velox.Millis(k.At), Status: reconcile.Purged, Reason: "the POS purged it, and the other side lacks it",
	}
}

// picks reads the events that are wanted one by one: their items show which.
func (p *pageReader) picks(ctx context.Context, want merkle.Want) (reconcile.Page, error) {
	var spans []merkle.Span
	for _, pick := range want.Picks {
		if span := pick.Span(); p.after == nil || span.To.Compare(*p.after) > 0 {
			spans = append(spans, span)
		}
	}
	var (
		keys    []merkle.Key
		scanned int
	)
	err := storeScanner{p.log.db, p.store}.Scan(ctx, spans, func(item merkle.Item) error {
		if p.after != nil && item.Key.Compare(*p.after) <= 0 {
			return nil
		}
		if want.Holds(item) {
			keys = append(keys, item.Key)
		}
		if scanned++; scanned == scannedAtMost || len(keys) == pageEvents {
			p.page.Next = &item.Key
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return reconcile.Page{}, err
	}
	return p.page, p.byKey(ctx, keys)
}

// scannedAtMost bounds the items that one page looks at for those that are picked.
const scannedAtMost = 1 << 16

// errEnough ends a scan early.
var errEnough = errors.New("enough")

// byKey reads events by their keys; those that have no row were purged.
func (p *pageReader) byKey(ctx context.Context, keys []merkle.Key) error {
	ids := make([]uuid.UUID, len(keys))
	for i, k := range keys {
		ids[i] = k.ID
	}
	rows, err := p.log.db.Pool.Query(ctx, `SELECT `+eventColumns+` FROM `+eventTables+`
		WHERE e.store_id = $1 AND e.event_id = ANY($2) ORDER BY reconciled.ms(e.created_at), e.event_id`, p.store, ids)
	if err != nil {
		return fmt.Errorf("read page: %w", err)
	}
	full, err := p.take(rows)
	if err != nil {
		return err
	}
	if full {
		last := reconcile.Key(&p.page.Events[len(p.page.Events)-1])
		p.page.Next = &last
	}
	for _, k := range keys {
		if full && k.Compare(*p.page.Next) > 0 {
			break
		}
		_, found := slices.BinarySearchFunc(p.page.Events, k, func(e velox.Event, k merkle.Key) int { return reconcile.Key(&e).Compare(k) })
		if !found {
			p.page.Gone = append(p.page.Gone, purgedHere(k))
		}
	}
	return nil
}

// storeScanner is merkle.Scanner over one store's events.
type storeScanner struct {
	db    *DB
	store velox.StoreID
}

// slotsScanned bounds the slots of one query: a scan may end early.
const slotsScanned = 256

// Scan reads whole slots together, and other spans one by one.
func (s storeScanner) Scan(ctx context.Context, spans []merkle.Span, yield func(merkle.Item) error) error {
	for len(spans) > 0 {
		var slots []int64
		for len(spans) > 0 && len(slots) < slotsScanned && spans[0] == merkle.SlotRange(spans[0].From.Slot()).Span() {
			slots = append(slots, spans[0].From.Slot())
			spans = spans[1:]
		}
		if len(slots) > 0 {
			if err := s.slots(ctx, slots, yield); err != nil {
				return err
			}
			continue
		}
		if err := eachItem(ctx, s.db.Pool, s.store, spans[0], yield); err != nil {
			return err
		}
		spans = spans[1:]
	}
	return nil
}

// slots reads the items of slots, which ascend.
func (s storeScanner) slots(ctx context.Context, slots []int64, yield func(merkle.Item) error) error {
	var stopped error
	err := pgx.BeginTxFunc(ctx, s.db.Pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		runs, err := runsOf(ctx, tx, s.store, slots)
		if err != nil {
			return err
		}
		return readItems(ctx, tx, s.store, slots, runs, func(item merkle.Item) {
			if stopped == nil {
				stopped = yield(item)
			}
		})
	})
	return cmp.Or(err, stopped)
}
