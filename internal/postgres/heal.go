package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// Healing is the read models of every store in a database, and the book of their
// gaps: a healer.Store. Safe for concurrent use.
type Healing struct{ db *DB }

var _ healer.Store = (*Healing)(nil)

// NewHealing returns the read models kept in db.
func NewHealing(db *DB) *Healing { return &Healing{db: db} }

// Due lists due slots of the healer's worklist, ascending.
func (h *Healing) Due(ctx context.Context, store velox.StoreID, after int64, limit int) ([]healer.Slot, error) {
	rows, err := h.db.Pool.Query(ctx, `
		SELECT slot, stamp, CASE WHEN events_stamp = stamp THEN events END FROM reconciled.worklist
		WHERE consumer = $1 AND store_id = $2 AND slot > $3 AND not_before <= clock_timestamp()
		ORDER BY slot LIMIT $4`, healerConsumer, store, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read worklist: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s healer.Slot, err error) {
		return s, row.Scan(&s.Slot, &s.Stamp, &s.Events)
	})
}

// Settle takes slots off the worklist, or off until they are to be seen again,
// unless they have changed since they were seen.
func (h *Healing) Settle(ctx context.Context, grant lock.Grant, slots []healer.Slot) error {
	var numbers, stamps []int64
	var waits []time.Duration
	for _, s := range slots {
		numbers, stamps, waits = append(numbers, s.Slot), append(stamps, s.Stamp), append(waits, s.Again)
	}
	const seen = `unnest($3::bigint[], $4::bigint[], $5::interval[]) AS s (slot, stamp, again)
		WHERE w.consumer = $1 AND w.store_id = $2 AND w.slot = s.slot AND w.stamp = s.stamp`
	return h.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) error {
		// Planned anew each time: by a plan made for an empty list it is quadratic.
		args := []any{pgx.QueryExecModeCacheDescribe, healerConsumer, grant.Store, numbers, stamps, waits}
		_, err := tx.Exec(ctx, `DELETE FROM reconciled.worklist w USING `+seen+` AND s.again = interval '0'`, args...)
		if err != nil {
			return fmt.Errorf("take slots off worklist: %w", err)
		}
		_, err = tx.Exec(ctx, `UPDATE reconciled.worklist w SET not_before = clock_timestamp() + s.again
			FROM `+seen+` AND s.again > interval '0'`, args...)
		if err != nil {
			return fmt.Errorf("put slots off: %w", err)
		}
		return nil
	})
}

// Refill puts every slot of the store's tree on the worklist, and forgets gaps
// whose events are gone from the log.
func (h *Healing) Refill(ctx context.Context, grant lock.Grant) (slots int64, err error) {
	err = h.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) error {
		if err := forgetGaps(ctx, tx, grant); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `
			INSERT INTO reconciled.worklist AS w (consumer, store_id, slot)
			SELECT DISTINCT $1, store_id, slot FROM reconciled.leaf WHERE store_id = $2
			ON CONFLICT (consumer, store_id, slot) DO UPDATE SET stamp = w.stamp + 1, not_before = now()`,
			healerConsumer, grant.Store)
		if err != nil {
			return fmt.Errorf("fill worklist: %w", err)
		}
		slots = tag.RowsAffected()
		return nil
	})
	return slots, err
}

// All lists the slots of the store's tree, ascending.
func (h *Healing) All(ctx context.Context, store velox.StoreID, after int64, limit int) ([]healer.Slot, error) {
	rows, err := h.db.Pool.Query(ctx, `SELECT slot FROM reconciled.leaf WHERE store_id = $1 AND slot > $2 ORDER BY slot LIMIT $3`, store, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read leaves: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s healer.Slot, err error) { return s, row.Scan(&s.Slot) })
}

// loggedColumns are what scanLogged reads, from loggedTables; $1 is the store, $2 the
// grace, $3 the backend's time for what was given back to it, $4 the run. An event is
// the backend's own while it is younger than the grace and waits in the outbox, or was
// made by the online API, which writes the rows and no outbox entry; and while it waits
// there again.
const loggedColumns = eventColumns + `, reconciled.slot(e.created_at),
	CASE
	WHEN e.received_at > now() - $2::interval AND e.received_at <= now() + $2::interval AND (
		o.waiting OR e.device_id = '00000000-0000-0000-0000-000000000001' AND o.status IS NULL)
	THEN least(e.received_at, now()) + $2 - now()
	WHEN o.waiting AND g.requeued_at > now() - $3::interval THEN g.requeued_at + $3 - now()
	ELSE interval '0' END,
	coalesce(o.status, ''), e.device_id = '00000000-0000-0000-0000-000000000001' AND o.status IS NULL,
	g.event_id IS NOT NULL, coalesce(CASE WHEN g.last_error IS NOT NULL AND g.waits_id IS NULL AND g.requeued_at IS NULL AND g.next_attempt > now() THEN g.class END, ''),
	g.requeued_at IS NOT NULL,
	coalesce(CASE WHEN g.run_id = $4 THEN CASE g.class WHEN 'actionable' THEN 'failed' ELSE g.class END END, '')`

const loggedTables = eventTables + loggedJoins

const loggedJoins = ` LEFT JOIN reconciled.gap g ON g.store_id = e.store_id AND g.event_id = e.event_id
	LEFT JOIN LATERAL (
		SELECT min(o.status) AS status, bool_or(o.status = 'pending' AND coalesce(o.retry_count, 0) < 10) AS waiting
		FROM public.outbox_entries o WHERE o.event_id IN (e.event_id::text, upper(e.event_id::text)) AND o.target = 'projection') o ON true`

func scanLogged(row pgx.CollectableRow) (healer.Logged, error) {
	var l healer.Logged
	e, err := scanEvent(alongside{row, []any{&l.Slot, &l.Grace, &l.Entry, &l.Online, &l.Gap, &l.Backing, &l.Requeued, &l.Counted}})
	l.Event.Event, l.Projected = e, l.Entry == "processed"
	return l, err
}

// alongside lets a scan function read a row that has more columns at its end.
type alongside struct {
	pgx.CollectableRow
	more []any
}

func (a alongside) Scan(dest ...any) error { return a.CollectableRow.Scan(append(dest, a.more...)...) }

// healBytes bounds what a page holds in memory, beside its number of events.
const healBytes = 8 << 20

// Scan visits the events of slots, or those that the list names of them, oldest first,
// while it reads them.
func (h *Healing) Scan(ctx context.Context, grant lock.Grant, slots []healer.Slot, opts healer.Options, visit healer.Visit) error {
	var since, until []pgtype.Timestamptz
	var named []uuid.UUID
	for _, s := range slots {
		if s.Events != nil {
			named = append(named, s.Events...)
			continue
		}
		since, until = append(since, notBefore(s.Slot<<20)), append(until, notAfter(s.Slot<<20+1<<20-1))
	}
	rows, err := h.db.Pool.Query(ctx, `SELECT `+loggedColumns+`
		FROM (SELECT e.* FROM unnest($5::timestamptz[], $6::timestamptz[]) AS w (since, until)
			CROSS JOIN LATERAL (SELECT * FROM public.events e WHERE e.store_id = $1 AND e.created_at >= w.since AND e.created_at <= w.until OFFSET 0) e
			UNION ALL SELECT * FROM public.events WHERE store_id = $1 AND event_id = ANY($7)) e
		LEFT JOIN reconciled.said s ON s.event_id = e.event_id`+loggedJoins+`
		ORDER BY e.created_at, e.event_id`, grant.Store, opts.Grace, opts.Patience, grant.Run, since, until, named)
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	defer rows.Close()
	var p pager
	for rows.Next() {
		if err := p.take(rows); err != nil {
			return err
		}
		if p.full(opts.Batch) {
			if err := p.turn(ctx, visit); err != nil {
				return err
			}
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	return p.turn(ctx, visit)
}

// awake says which gaps can be planned anew. A payment that waits for a debt is
// woken, too, by the gap of the DebtCreated whose row will never be.
const awake = `(g.next_attempt <= now() AND g.class IN ('actionable', 'waiting', 'blocked') OR g.class IN ('waiting', 'blocked') AND CASE g.waits_table
	WHEN 'products' THEN EXISTS (SELECT FROM public.products t WHERE t.id = g.waits_id)
	WHEN 'customers' THEN EXISTS (SELECT FROM public.customers t WHERE t.id = g.waits_id)
	WHEN 'cash_sessions' THEN EXISTS (SELECT FROM public.cash_sessions t WHERE t.id = g.waits_id)
	WHEN 'sales' THEN EXISTS (SELECT FROM public.sales t WHERE t.id = g.waits_id)
	WHEN 'debts' THEN EXISTS (SELECT FROM public.debts t WHERE t.id = g.waits_id)
		OR EXISTS (SELECT FROM reconciled.gap never WHERE never.store_id = g.store_id AND never.class = 'semantic'
			AND never.waits_table = 'debts' AND never.waits_id = g.waits_id)
	WHEN 'profiles' THEN EXISTS (SELECT FROM public.profiles t WHERE t.id = g.waits_id)
	WHEN 'product_variants' THEN EXISTS (SELECT FROM public.product_variants t WHERE t.id = g.waits_id)

	WHEN 'invoice_series' THEN EXISTS (SELECT FROM public.invoice_series t WHERE t.id = g.waits_id)
	WHEN 'said' THEN s.event_id IS NOT NULL
	WHEN 'events' THEN EXISTS (SELECT FROM public.events t WHERE t.event_id = g.waits_id AND t.store_id = g.store_id)
		AND NOT EXISTS (SELECT FROM reconciled.gap b WHERE b.store_id = g.store_id AND b.event_id = g.waits_id AND b.class NOT IN ('semantic', 'poison'))
	ELSE false END)`

// Awake visits the events of gaps that can be planned anew.
func (h *Healing) Awake(ctx context.Context, grant lock.Grant, opts healer.Options, visit healer.Visit) error {
	var p pager
	for more := true; more; {
		var err error
		more, err = p.read(ctx, h.db.Pool, opts.Batch, `SELECT `+loggedColumns+` FROM `+loggedTables+`
			WHERE g.store_id = $1 AND g.event_id > $5 AND `+awake+` ORDER BY g.event_id LIMIT $6`,
			grant.Store, opts.Grace, opts.Patience, grant.Run, p.last.ID, opts.Batch)
		if err != nil {
			return err
		}
		if err := p.turn(ctx, visit); err != nil {
			return err
		}
	}
	return nil
}

// Named reads events by their ids.
func (h *Healing) Named(ctx context.Context, grant lock.Grant, events []uuid.UUID, opts healer.Options) ([]healer.Logged, error) {
	rows, err := h.db.Pool.Query(ctx, `SELECT `+loggedColumns+` FROM `+loggedTables+` WHERE e.store_id = $1 AND e.event_id = ANY($5)`,
		grant.Store, opts.Grace, opts.Patience, grant.Run, events)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanLogged)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return list, nil
}

// pager fills a page of events, over several queries if need be.
type pager struct {
	page []healer.Logged
	size int
	last healer.Logged
}

func (p *pager) full(events int) bool { return len(p.page) >= events || p.size >= healBytes }

// read adds rows to the page until it is full. It reports whether there may be
// more of them.
func (p *pager) read(ctx context.Context, q querier, events int, sql string, args ...any) (more bool, err error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return false, fmt.Errorf("read events: %w", err)
	}
	defer rows.Close()
	for !p.full(events) && rows.Next() {
		if err := p.take(rows); err != nil {
			return false, err
		}
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return false, fmt.Errorf("read events: %w", err)
	}
	return p.full(events), nil
}

// take adds a row to the page.
func (p *pager) take(rows pgx.Rows) (err error) {
	if p.last, err = scanLogged(rows); err != nil {
		return err
	}
	p.page = append(p.page, p.last)
	p.size += len(p.last.Payload) + len(p.last.Delta) + len(p.last.Restored)
	return nil
}

func (p *pager) turn(ctx context.Context, visit healer.Visit) error {
	if len(p.page) == 0 {
		return nil
	}
	page := p.page
	p.page, p.size = nil, 0
	return visit(ctx, page)
}
