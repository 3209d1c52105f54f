package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// GapBook is what people read and decide about events that are not projected, and
// about what was healed. Safe for concurrent use.
type GapBook struct{ db *DB }

// NewGapBook returns the book kept in db.
func NewGapBook(db *DB) *GapBook { return &GapBook{db: db} }

// GapClasses are the classes of open gaps, those that ask for a person's eye first.
var GapClasses = []projection.Class{
	projection.Actionable, projection.Blocked, projection.Poison, projection.Waiting, projection.Semantic,
}

// OpenGap is an event that is not projected.
type OpenGap struct {
	Event       uuid.UUID        `json:"event_id"`
	Type        velox.Type       `json:"type"`
	Class       projection.Class `json:"class"`
	Since       time.Time        `json:"since"`
	WaitsTable  string           `json:"waits_table,omitempty"` // where the row is missing that it waits for
	WaitsID     uuid.NullUUID    `json:"waits_id"`
	Attempts    int              `json:"attempts"`
	NextAttempt *time.Time       `json:"next_attempt"`
	Reason      string           `json:"reason"`
	LastError   string           `json:"last_error,omitempty"` // of the write, when there was one
	Dismissed   *Dismissal       `json:"dismissed,omitempty"`
}

// Dismissal is a person's decision that a malformed event stays as it is.
type Dismissal struct {
	At  time.Time `json:"at"`
	By  string    `json:"by"`
	Why string    `json:"why"`
}

// The open gaps of a store ($1). A quarantine entry is one while its event is malformed
// and nobody has dismissed it; a gap of the other classes is one as long as it is there.
const (
	isPoison = `q.store_id = $1 AND NOT EXISTS (SELECT FROM reconciled.gap other
		WHERE other.store_id = q.store_id AND other.event_id = q.event_id AND other.class <> 'poison')`
	openGaps = `
		SELECT event_id, class FROM reconciled.gap WHERE store_id = $1 AND class <> 'poison'
		UNION ALL SELECT event_id, 'poison' FROM reconciled.quarantine q WHERE ` + isPoison + ` AND dismissed_at IS NULL`
)

// Counts says how many open gaps a store has, by class.
func (b *GapBook) Counts(ctx context.Context, store velox.StoreID) (map[projection.Class]int, error) {
	rows, err := b.db.Pool.Query(ctx, `SELECT class, count(*) FROM (`+openGaps+`) o GROUP BY class`, store)
	if err != nil {
		return nil, fmt.Errorf("count gaps: %w", err)
	}
	var (
		class projection.Class
		n     int
	)
	counts := map[projection.Class]int{}
	if _, err := pgx.ForEachRow(rows, []any{&class, &n}, func() error { counts[class] = n; return nil }); err != nil {
		return nil, fmt.Errorf("count gaps: %w", err)
	}
	return counts, nil
}

// List names the newest open gaps of these classes, at most limit of each; with
// dismissed also the events that a person has dismissed.
func (b *GapBook) List(ctx context.Context, store velox.StoreID, classes []projection.Class, limit int, dismissed bool) ([]OpenGap, error) {
	rows, err := b.db.Pool.Query(ctx, `
		WITH shown AS (
			SELECT event_id, type, class, first_seen, coalesce(waits_table, '') AS waits_table, waits_id, attempts, next_attempt, reason,
				coalesce(last_error, '') AS last_error, NULL::timestamptz AS dismissed_at, NULL AS dismissed_by, NULL AS dismissed_reason
			FROM reconciled.gap WHERE store_id = $1 AND class <> 'poison'
			UNION ALL
			SELECT q.event_id, q.type, 'poison', q.first_seen, '', NULL, coalesce(g.attempts, 0), g.next_attempt, q.reason,
				coalesce(g.last_error, ''), q.dismissed_at, q.dismissed_by, q.dismissed_reason
			FROM reconciled.quarantine q LEFT JOIN reconciled.gap g ON g.store_id = q.store_id AND g.event_id = q.event_id
			WHERE `+isPoison+` AND (q.dismissed_at IS NULL OR $4 AND q.dismissed_by <> 'reconciled')),
		newest AS (
			SELECT *, row_number() OVER (PARTITION BY class ORDER BY first_seen DESC, event_id) AS place FROM shown WHERE class = ANY($2))
		SELECT event_id, type, class, first_seen, waits_table, waits_id, attempts, next_attempt, reason, last_error,
			dismissed_at, dismissed_by, dismissed_reason
		FROM newest WHERE place <= $3 ORDER BY array_position($2, class), place`, store, classes, limit, dismissed)
	if err != nil {
		return nil, fmt.Errorf("list gaps: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (g OpenGap, err error) {
		var at *time.Time
		var by, why *string
		err = row.Scan(&g.Event, &g.Type, &g.Class, &g.Since, &g.WaitsTable, &g.WaitsID, &g.Attempts, &g.NextAttempt, &g.Reason, &g.LastError, &at, &by, &why)
		if err == nil && at != nil {
			g.Dismissed = &Dismissal{At: *at, By: orEmpty(by), Why: orEmpty(why)}
		}
		return g, err
	})
	if err != nil {
		return nil, fmt.Errorf("list gaps: %w", err)
	}
	return list, nil
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// What a person asked for that is not there.
var (
	// ErrNoGap: an event is no open gap of the store.
	ErrNoGap = errors.New("event is no gap")
	// ErrNotPoison: an event is not malformed, or was dismissed before.
	ErrNotPoison = errors.New("event is not in quarantine")
	// ErrNotOutstanding: nothing is outstanding of an event.
	ErrNotOutstanding = errors.New("nothing is outstanding of event")
)

// Retry makes gaps due now: those of these events, or all open ones of a class, or of
// every class when class is "". One that is malformed, or rightly without rows, is
// planned anew only when its slot is read again, so that goes onto the healer's list;
// one that was dismissed is open again, if it is named. It takes up all that are named
// or fails with ErrNoGap.
func (b *GapBook) Retry(ctx context.Context, grant lock.Grant, events []uuid.UUID, class projection.Class, by string) (due []uuid.UUID, err error) {
	err = b.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			WITH asked AS (
				SELECT event_id, class FROM (`+openGaps+`) o
				WHERE CASE WHEN cardinality($2::uuid[]) > 0 THEN event_id = ANY($2) ELSE $3 IN ('', class) END
				UNION SELECT q.event_id, 'poison' FROM reconciled.quarantine q WHERE `+isPoison+` AND q.event_id = ANY($2)
			), timed AS (
				UPDATE reconciled.gap g SET next_attempt = now(), requeued_at = NULL FROM asked WHERE g.store_id = $1 AND g.event_id = asked.event_id
			), reopened AS (
				UPDATE reconciled.quarantine q SET dismissed_at = NULL, dismissed_by = NULL, dismissed_reason = NULL FROM asked
				WHERE q.store_id = $1 AND q.event_id = asked.event_id AND asked.class = 'poison' AND q.dismissed_at IS NOT NULL
			), listed AS (
				INSERT INTO reconciled.worklist AS w (consumer, store_id, slot)
				SELECT DISTINCT $4, $1::uuid, reconciled.slot(e.created_at) FROM asked JOIN public.events e ON e.event_id = asked.event_id
				WHERE asked.class IN ('poison', 'semantic')
				ON CONFLICT (consumer, store_id, slot) DO UPDATE SET stamp = w.stamp + 1, not_before = now()
			)
			SELECT event_id FROM asked`, grant.Store, append([]uuid.UUID{}, events...), class, healerConsumer)
		if err == nil {
			due, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		}
		if err != nil {
			return fmt.Errorf("make gaps due: %w", err)
		}
		if missing := without(events, due); len(missing) > 0 {
			return fmt.Errorf("%w: %s", ErrNoGap, missing[0])
		}
		if len(due) == 0 {
			return nil
		}
		return audit(ctx, tx, grant.Store, decision{
			actor: by, action: "gaps retry", target: "events", outcome: "due",
			detail: map[string]any{"count": len(due), "class": class, "events": due[:min(len(due), releasedNamed)]},
		})
	})
	return due, err
}

// Dismiss takes a malformed event off the counts and lists, for good: the healer's
// next looks do not bring it back. It fails with ErrNotPoison.
func (b *GapBook) Dismiss(ctx context.Context, grant lock.Grant, event uuid.UUID, by, why string) error {
	return b.db.fenced(ctx, grant, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE reconciled.quarantine q SET dismissed_at = now(), dismissed_by = $3, dismissed_reason = $4
			WHERE `+isPoison+` AND q.event_id = $2 AND q.dismissed_at IS NULL`, grant.Store, event, by, why)
		if err != nil {
			return fmt.Errorf("dismiss event: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("%w: %s", ErrNotPoison, event)
		}
		return audit(ctx, tx, grant.Store, decision{
			actor: by, action: "gaps dismiss", target: event.String(), outcome: "dismissed", detail: map[string]any{"why": why},
		})
	})
}

// Outstanding is what the POS's backend would have done beside the rows of an event
// that was healed natively, and an accountant has to see to.
type Outstanding struct {
	Event  uuid.UUID     `json:"event_id"`
	Type   velox.Type    `json:"type"`
	Sale   uuid.NullUUID `json:"sale_id"`
	Healed time.Time     `json:"healed_at"`
	Tasks  []string      `json:"outstanding"`
}

// unsettled are the entries of the heal log ($1: the store) with something outstanding
// that nobody has settled; an event that was healed twice has two.
const unsettled = `reconciled.heal_log l WHERE l.store_id = $1 AND l.strategy = 'native' AND l.after ? 'outstanding'
	AND NOT EXISTS (SELECT FROM reconciled.audit a WHERE a.store_id = $1 AND a.action = 'outstanding.settle' AND a.target = l.event_id::text)`

// Outstanding lists events with something outstanding, the latest first, at most limit,
// and counts all.
func (b *GapBook) Outstanding(ctx context.Context, store velox.StoreID, limit int) (list []Outstanding, total int, err error) {
	rows, err := b.db.Pool.Query(ctx, `
		SELECT event_id, type, claim, healed_at, outstanding, count(*) OVER () FROM (
			SELECT DISTINCT ON (event_id) l.event_id, l.type, l.healed_at, coalesce(l.after ->> 'claim', '') AS claim,
				l.after -> 'outstanding' AS outstanding
			FROM `+unsettled+` ORDER BY event_id, l.id DESC) latest
		ORDER BY healed_at DESC, event_id LIMIT $2`, store, limit)
	if err != nil {
		return nil, 0, fmt.Errorf("list what is outstanding: %w", err)
	}
	list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (o Outstanding, err error) {
		var claim string
		err = row.Scan(&o.Event, &o.Type, &claim, &o.Healed, &o.Tasks, &total)
		if sale, ok := strings.CutPrefix(claim, string(projection.Sales)+" "); ok {
			o.Sale.UUID, err = uuid.Parse(sale)
			o.Sale.Valid = err == nil
		}
		return o, err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list what is outstanding: %w", err)
	}
	return list, total, nil
}

// Settle writes down that what was outstanding of these events has been seen to: all of
// them, or it fails with ErrNotOutstanding. It writes nothing but the audit, so it needs
// no lock.
func (b *GapBook) Settle(ctx context.Context, store velox.StoreID, events []uuid.UUID, by, why string) error {
	return b.db.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT DISTINCT l.event_id FROM `+unsettled+` AND l.event_id = ANY($2)`, store, events)
		if err != nil {
			return fmt.Errorf("look for what is outstanding: %w", err)
		}
		open, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			return fmt.Errorf("look for what is outstanding: %w", err)
		}
		if missing := without(events, open); len(missing) > 0 {
			return fmt.Errorf("%w: %s", ErrNotOutstanding, missing[0])
		}
		for _, event := range open {
			err := audit(ctx, tx, store, decision{
				actor: by, action: "outstanding.settle", target: event.String(), outcome: "settled", detail: map[string]any{"why": why},
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// HealEntry is a row of the heal log.
type HealEntry struct {
	At       time.Time       `json:"healed_at"`
	Type     velox.Type      `json:"type"`
	Strategy string          `json:"strategy"`
	Epoch    int64           `json:"epoch"`
	Run      uuid.NullUUID   `json:"run_id"`
	Before   json.RawMessage `json:"before"`
	After    json.RawMessage `json:"after"`
}

// HealLog reads all that was healed of an event, the oldest first.
func (b *GapBook) HealLog(ctx context.Context, store velox.StoreID, event uuid.UUID) ([]HealEntry, error) {
	rows, err := b.db.Pool.Query(ctx, `SELECT healed_at, type, strategy, epoch, run_id, coalesce(before, 'null'), coalesce(after, 'null')
		FROM reconciled.heal_log WHERE store_id = $1 AND event_id = $2 ORDER BY id`, store, event)
	if err != nil {
		return nil, fmt.Errorf("read heal log: %w", err)
	}
	entries, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e HealEntry, err error) {
		return e, row.Scan(&e.At, &e.Type, &e.Strategy, &e.Epoch, &e.Run, (*[]byte)(&e.Before), (*[]byte)(&e.After))
	})
	if err != nil {
		return nil, fmt.Errorf("read heal log: %w", err)
	}
	return entries, nil
}
