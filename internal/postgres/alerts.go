package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/internal/velox"
)

// ErrNoAlert: no alert has this id.
var ErrNoAlert = errors.New("no alert has this id")

// Alerts keeps what is wrong with stores, and what people are told of it. It is
// outside the fence: it writes nothing of the POS's, and the row of a store's last
// look is its lock.
type Alerts struct{ db *DB }

// NewAlerts returns the alerts kept in db.
func NewAlerts(db *DB) *Alerts { return &Alerts{db: db} }

// Step takes a store's alerts as they are, by this database's clock, and keeps what
// step makes of them, all or nothing. Where another daemon has looked less than gap ago
// it does nothing: its look counts.
func (a *Alerts) Step(ctx context.Context, store velox.StoreID, gap time.Duration, step func(now time.Time, kept []alert.Alert) ([]alert.Alert, []alert.Delivery)) error {
	return a.db.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		now, due, err := a.look(ctx, tx, store, gap)
		if err != nil || !due {
			return err
		}
		kept, err := readAlerts(ctx, tx, `store_id = $1 AND (state <> 'resolved' OR state = 'resolved' AND resolved_at > $2)`, store, now.Add(-alert.Fold))
		if err != nil {
			return err
		}
		changed, told := step(now, kept)
		for _, a := range changed {
			if err := saveAlert(ctx, tx, a); err != nil {
				return err
			}
		}
		return saveDeliveries(ctx, tx, told)
	})
}

// look locks the store's alerts and says what time it is; due is false when it was
// looked at less than gap ago.
func (a *Alerts) look(ctx context.Context, tx pgx.Tx, store velox.StoreID, gap time.Duration) (now time.Time, due bool, err error) {
	_, err = tx.Exec(ctx, `INSERT INTO reconciled.alert_look (store_id, looked_at) VALUES ($1, '-infinity') ON CONFLICT DO NOTHING`, store)
	if err != nil {
		return now, false, fmt.Errorf("make look of store %s: %w", store, err)
	}
	err = tx.QueryRow(ctx, `SELECT clock_timestamp(), looked_at <= clock_timestamp() - $2::interval OR looked_at > clock_timestamp()
		FROM reconciled.alert_look WHERE store_id = $1 FOR UPDATE`, store, gap).Scan(&now, &due)
	if err == nil && due {
		_, err = tx.Exec(ctx, `UPDATE reconciled.alert_look SET looked_at = clock_timestamp() WHERE store_id = $1`, store)
	}
	if err != nil {
		return now, false, fmt.Errorf("lock alerts of store %s: %w", store, err)
	}
	return now.UTC(), due, nil
}

func readAlerts(ctx context.Context, q querier, where string, args ...any) ([]alert.Alert, error) {
	rows, err := q.Query(ctx, `SELECT alert FROM reconciled.alert WHERE `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read alerts: %w", err)
	}
	list, err := pgx.CollectRows(rows, fromJSON[alert.Alert])
	if err != nil {
		return nil, fmt.Errorf("read alerts: %w", err)
	}
	return list, nil
}

// fromJSON reads a row of one column that holds a value whole.
func fromJSON[T any](row pgx.CollectableRow) (value T, err error) {
	var text []byte
	if err = row.Scan(&text); err == nil {
		err = json.Unmarshal(text, &value)
	}
	return value, err
}

func saveAlert(ctx context.Context, tx pgx.Tx, a alert.Alert) (err error) {
	if a.State == alert.Forgotten {
		_, err = tx.Exec(ctx, `DELETE FROM reconciled.alert WHERE id = $1`, a.ID)
	} else {
		_, err = tx.Exec(ctx, `INSERT INTO reconciled.alert (id, store_id, code, state, since, resolved_at, alert) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (id) DO UPDATE SET state = excluded.state, since = excluded.since, resolved_at = excluded.resolved_at, alert = excluded.alert`,
			a.ID, a.Store, string(a.Code), string(a.State), a.Since, orNull(a.Resolved), a)
	}
	if err != nil {
		return fmt.Errorf("save alert %s: %w", a.ID, err)
	}
	return nil
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// saveDeliveries writes deliveries down. One that was taken stays so, whatever another
// daemon that sent it as well has met.
func saveDeliveries(ctx context.Context, tx pgx.Tx, list []alert.Delivery) error {
	for _, d := range list {
		_, err := tx.Exec(ctx, `INSERT INTO reconciled.delivery (id, alert_id, store_id, channel, next_attempt, done_at, delivery) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (id) DO UPDATE SET next_attempt = excluded.next_attempt, done_at = excluded.done_at, delivery = excluded.delivery
			WHERE delivery.done_at IS NULL`,
			d.ID, d.Alert, d.Store, d.Channel, d.NextAttempt, orNull(d.DoneAt), d)
		if err != nil {
			return fmt.Errorf("save delivery %s: %w", d.ID, err)
		}
	}
	return nil
}

// waitingAtOnce bounds what a channel looks at in one go; the rest waits its turn.
const waitingAtOnce = 1000

// Waiting are the deliveries of a channel that are due, fiscal ones and then the oldest
// first, and how many messages went out over it within alert.Window. Of each alert that is
// the oldest alone: its end is not told before its beginning is through.
func (a *Alerts) Waiting(ctx context.Context, channel string) (waiting []alert.Delivery, sent int, now time.Time, err error) {
	return a.waiting(ctx, channel, nil)
}

// waiting reads those of a channel, or of one store over it. What is put off for longer
// than may be was so before the clock was set back, and is due. What was refused for what
// it says may never be taken, so while it is put off the rest does not wait for it.
func (a *Alerts) waiting(ctx context.Context, channel string, store *velox.StoreID) (waiting []alert.Delivery, sent int, now time.Time, err error) {
	longest := alert.NextAttempt(math.MaxInt)
	const (
		asked = `channel = $1 AND store_id = coalesce($2, store_id)`
		isDue = `(next_attempt <= now() OR next_attempt > now() + $3::interval)`
	)
	rows, err := a.db.Pool.Query(ctx, `
		SELECT delivery FROM (
			SELECT DISTINCT ON (alert_id) * FROM reconciled.delivery
			WHERE `+asked+` AND done_at IS NULL AND (`+isDue+` OR NOT delivery ? 'alone') ORDER BY alert_id, place) oldest
		WHERE `+isDue+`
		ORDER BY (delivery #>> '{message,alerts,0,code}') LIKE 'FISCAL%' DESC, place LIMIT $4`, channel, store, longest, waitingAtOnce)
	if err == nil {
		waiting, err = pgx.CollectRows(rows, fromJSON[alert.Delivery])
	}
	if err == nil { // those of one message are done at one time
		err = a.db.Pool.QueryRow(ctx, `SELECT count(DISTINCT done_at), now() FROM reconciled.delivery
			WHERE `+asked+` AND done_at > now() - $3::interval AND done_at <= now()`, channel, store, alert.Window).Scan(&sent, &now)
	}
	if err != nil {
		return nil, 0, now, fmt.Errorf("read deliveries of %s: %w", channel, err)
	}
	now = now.UTC()
	for i, d := range waiting { // all are due, by whichever clock
		if d.NextAttempt.After(now) {
			waiting[i].NextAttempt = now
		}
	}
	return waiting, sent, now, nil
}

// Keep writes down what became of deliveries.
func (a *Alerts) Keep(ctx context.Context, list []alert.Delivery) error {
	return a.db.transact(ctx, func(ctx context.Context, tx pgx.Tx) error { return saveDeliveries(ctx, tx, list) })
}

// Claim makes sender the one who sends over a channel for a term, unless another one
// is; mine says which. A claim that ends beyond its term was made before the clock was
// set back, and counts for nothing.
func (a *Alerts) Claim(ctx context.Context, channel string, sender uuid.UUID, term time.Duration) (mine bool, err error) {
	err = a.db.Pool.QueryRow(ctx, `
		WITH claimed AS (
			INSERT INTO reconciled.channel AS c (name, sender, until) VALUES ($1, $2, clock_timestamp() + $3)
			ON CONFLICT (name) DO UPDATE SET sender = excluded.sender, until = excluded.until
			WHERE c.sender = excluded.sender OR c.until <= clock_timestamp() OR c.until > clock_timestamp() + $3 RETURNING true)
		SELECT EXISTS (SELECT FROM claimed)`, channel, sender, term).Scan(&mine)
	if err != nil {
		return false, fmt.Errorf("claim channel %s: %w", channel, err)
	}
	return mine, nil
}

// Release lets another send over a channel at once.
func (a *Alerts) Release(ctx context.Context, channel string, sender uuid.UUID) error {
	_, err := a.db.Pool.Exec(ctx, `UPDATE reconciled.channel SET until = clock_timestamp() WHERE name = $1 AND sender = $2`, channel, sender)
	if err != nil {
		return fmt.Errorf("release channel %s: %w", channel, err)
	}
	return nil
}

// Looked is when a store was last looked at; zero when it never was.
func (a *Alerts) Looked(ctx context.Context, store velox.StoreID) (at time.Time, err error) {
	var found *time.Time
	err = a.db.Pool.QueryRow(ctx, `SELECT max(looked_at) FROM reconciled.alert_look WHERE store_id = $1 AND isfinite(looked_at)`, store).Scan(&found)
	if err != nil {
		return at, fmt.Errorf("read last look at store %s: %w", store, err)
	}
	if found != nil {
		at = found.UTC()
	}
	return at, nil
}

// Standing are the alerts of all stores that stand, and those that have just resolved.
func (a *Alerts) Standing(ctx context.Context) (map[velox.StoreID][]alert.Alert, time.Time, error) {
	var now time.Time
	if err := a.db.Pool.QueryRow(ctx, `SELECT now()`).Scan(&now); err != nil {
		return nil, now, fmt.Errorf("read the clock: %w", err)
	}
	list, err := readAlerts(ctx, a.db.Pool, `state IN ('firing', 'acknowledged') OR state = 'resolved' AND resolved_at > $1`, now.Add(-alert.Fold))
	byStore := map[velox.StoreID][]alert.Alert{}
	for _, kept := range list {
		byStore[kept.Store] = append(byStore[kept.Store], kept)
	}
	return byStore, now.UTC(), err
}

// List shows a store's alerts, the newest first: those that are not over, and with all
// also those that are.
func (a *Alerts) List(ctx context.Context, store velox.StoreID, all bool, limit int) ([]alert.Alert, error) {
	return readAlerts(ctx, a.db.Pool, `store_id = $1 AND ($2 OR state <> 'resolved') ORDER BY state = 'resolved', since DESC, id LIMIT $3`, store, all, limit)
}

// Acknowledge says that somebody has taken an alert on, and writes it into the audit.
// It fails with ErrNoAlert or alert.ErrNotFiring.
func (a *Alerts) Acknowledge(ctx context.Context, store velox.StoreID, id uuid.UUID, by, why string) (taken alert.Alert, err error) {
	err = a.db.transact(ctx, func(ctx context.Context, tx pgx.Tx) error {
		// The lock of the store's alerts, which is no look at the store.
		var now time.Time
		err := tx.QueryRow(ctx, `SELECT clock_timestamp() FROM reconciled.alert_look WHERE store_id = $1 FOR UPDATE`, store).Scan(&now)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("%w: %s", ErrNoAlert, id)
		}
		if err != nil {
			return fmt.Errorf("lock alerts of store %s: %w", store, err)
		}
		list, err := readAlerts(ctx, tx, `store_id = $1 AND id = $2`, store, id)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return fmt.Errorf("%w: %s", ErrNoAlert, id)
		}
		if taken, err = alert.Acknowledge(list[0], by, why, now.UTC()); err != nil {
			return err
		}
		if err := saveAlert(ctx, tx, taken); err != nil {
			return err
		}
		return audit(ctx, tx, store, decision{
			actor: by, action: "alerts acknowledge", target: id.String(), outcome: "acknowledged",
			detail: map[string]any{"why": why, "code": taken.Code, "key": taken.Key},
		})
	})
	return taken, err
}

// alertsKept is how long what is over is remembered.
const alertsKept = 90 * 24 * time.Hour

// Tidy forgets alerts of a store that have been over for long, and what was told.
func (a *Alerts) Tidy(ctx context.Context, store velox.StoreID) error {
	_, err := a.db.Pool.Exec(ctx, `DELETE FROM reconciled.alert WHERE store_id = $1 AND state = 'resolved' AND resolved_at < now() - $2::interval`, store, alertsKept)
	if err == nil {
		_, err = a.db.Pool.Exec(ctx, `DELETE FROM reconciled.delivery WHERE store_id = $1 AND done_at < now() - $2::interval`, store, alertsKept)
	}
	if err != nil {
		return fmt.Errorf("forget old alerts: %w", err)
	}
	return nil
}

// Hear notes that a store has called.
func (a *Alerts) Hear(ctx context.Context, store velox.StoreID) error {
	_, err := a.db.Pool.Exec(ctx, `INSERT INTO reconciled.heard (store_id, at) VALUES ($1, now()) ON CONFLICT (store_id) DO UPDATE SET at = excluded.at`, store)
	if err != nil {
		return fmt.Errorf("note that store %s called: %w", store, err)
	}
	return nil
}

// Await begins to count how long stores are silent that have never called.
func (a *Alerts) Await(ctx context.Context, stores []velox.StoreID) error {
	_, err := a.db.Pool.Exec(ctx, `INSERT INTO reconciled.heard (store_id, at) SELECT unnest($1::uuid[]), now() ON CONFLICT DO NOTHING`, stores)
	if err != nil {
		return fmt.Errorf("await stores: %w", err)
	}
	return nil
}
