package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// aDay is a shop's day with everything that depends on order: credit, debts
// from both nodes, payments, voids, two closings, stock from two tills.
func aDay() []said {
	concurrent := received("seven", 4, flour, 7)
	concurrent.device = tillB
	return []said{
		product("flour", 0), product("rice", 0), customerCreated(1), opened(1),
		received("ten", 2, flour, 10), concurrent,
		event("adjusted", velox.StockAdjusted, 5, map[string]any{"movement_id": id("adjust"), "product_id": rice, "qty_delta": "-3.25", "warehouse_id": id("annex")}),
		event("delta", velox.StockDeltaApplied, 6, map[string]any{"movement_id": id("delta"), "product_id": rice, "qty_delta": 8, "reason": "conteo", "warehouse_id": ""}),
		sold("cash", 10, nil, flour, rice), sold("credit", 11, onCredit(maria), flour), sold("returned", 12, onCredit(maria), rice),
		owes("absorbed", 13, id("sale credit")), owes("own", 14, nil), owes("void", 15, id("sale returned")),
		paid("one", 20, "own", 1), paid("two", 21, "own", "1.00"), paid("three", 22, "absorbed", "0.5"),
		voided("returned", 30), voided("cash", 31),
		closed("first", 50, map[string]any{"note": "cuadrado"}), closed("second", 60, nil),
	}
}

// empty takes everything out of the database but what seed made.
func (h *healing) empty() {
	h.Helper()
	h.exec(`TRUNCATE events, outbox_entries, products, customers, cash_sessions, sales, debts, debt_payments, inventory_movements,
		warehouse_stock, reconciled.dirty, reconciled.worklist, reconciled.gap, reconciled.quarantine, reconciled.heal_log,
		reconciled.removed_row, reconciled.said CASCADE`)
}

func TestI4AnyArrivalOrderGivesTheSameReadModel(t *testing.T) {
	h := newHealing(t, healer.Options{Batch: 4})
	h.log(aDay()...)
	h.heal()
	want := h.readModel()
	h.expect("DebtCreated semantic, DebtCreated semantic", `SELECT string_agg(type || ' ' || class, ', ') FROM reconciled.gap`)
	h.expect("5.000 4.750", `SELECT (SELECT sum(qty_delta) FROM inventory_movements WHERE product_id = $1) - 10 || ' ' ||
		(SELECT sum(qty_delta) FROM inventory_movements WHERE product_id = $2)`, flour, rice)
	h.expect("own paid, credit partial", `SELECT string_agg(concat_ws(' ', CASE WHEN sale_id IS NULL THEN 'own' ELSE 'credit' END, status), ', ' ORDER BY status) FROM debts`)
	h.expect("60 cuadrado", `SELECT concat_ws(' ', counted ->> 'cash_bs', note) FROM cash_sessions`)
	h.expect("3 2", `SELECT count(*) || ' ' || count(voided_at) FROM sales`)
	rapid.Check(t, func(rt *rapid.T) {
		h.empty()
		events := rapid.Permutation(aDay()).Draw(rt, "arrival")
		for len(events) > 0 {
			n := rapid.IntRange(1, len(events)).Draw(rt, "chunk")
			h.log(events[:n]...)
			events = events[n:]
			h.heal()
		}
		if got := h.readModel(); got != want {
			rt.Fatalf("read model\n%s\nwant\n%s", got, want)
		}
		h.reread()
		if report := h.heal(); report.Healed != 0 || h.readModel() != want {
			rt.Fatalf("applied again: %+v", report.Counts)
		}
	})
}

func TestI4TwoEventsOfOneSaleGiveOneSale(t *testing.T) {
	h := newHealing(t, healer.Options{})
	again := sold("one", 3, nil, flour)
	again.event = id("the same sale under another event id")
	h.log(product("flour", 0), opened(1), sold("one", 2, nil, flour), again)
	if report := h.heal(); report.Healed != 3 || report.Checked != 4 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect("1 1 1 3", `SELECT concat_ws(' ', (SELECT count(*) FROM sales), (SELECT count(*) FROM sale_items),
		(SELECT count(*) FROM inventory_movements), (SELECT count(*) FROM reconciled.heal_log))`)
}

func TestI6TenThousandPoisonEventsDoNotDelayAGoodOne(t *testing.T) {
	h := newHealing(t, healer.Options{})
	const each = 1700
	bodies := []string{
		`{"sale_id": "not-a-uuid", "items": [{"product_id": "x"}]}`, `{}`, `[]`, `"text"`, `null`,
		`{"sale_id": "00000000-0000-4000-8000-000000000001", "items": 7, "totals": {"total_bs": 1e400}}`,
	}
	for _, body := range bodies {
		h.exec(`INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload, received_at)
			SELECT gen_random_uuid(), $1, $2, n, 'SaleCreated', 1, now() - interval '2 days' + n * interval '1 s', $3, now() - interval '1 day'
			FROM generate_series(1, $4::int) n`, shop, tillA, body, each)
	}
	total := fmt.Sprint(each * len(bodies))
	good := product("flour", 0)
	good.at = time.Now()
	h.log(good)
	report := h.heal()
	if report.Healed != 1 || fmt.Sprint(report.Poison) != total {
		t.Errorf("healed %d, poison %d of %s", report.Healed, report.Poison, total)
	}
	h.expect("1", `SELECT count(*) FROM products`)
	h.expect(total, `SELECT count(*) FROM reconciled.quarantine`)
	h.expect("1", `SELECT count(DISTINCT reason) FROM reconciled.quarantine WHERE reason LIKE '%sale_id is not a UUID: "not-a-uuid"%'`)
	h.expect("0", `SELECT count(*) FROM reconciled.worklist`)
}

func TestI6WhatTheDatabaseRefusesStandsAloneAndBacksOff(t *testing.T) {
	h := newHealing(t, healer.Options{})
	clash := product("rice", 7)
	for i := range 20 {
		p := product(fmt.Sprint("product ", i), i)
		p.body["barcode"] = fmt.Sprint(i)
		h.log(p)
	}
	clash.body["barcode"] = "3"
	clash.at = clash.at.Add(time.Second)
	h.log(clash)
	report := h.heal()
	if report.Healed != 20 || report.Blocked != 1 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect("blocked 1 60 true", `SELECT concat_ws(' ', class, attempts, round(extract(epoch FROM next_attempt - first_seen)), (last_error LIKE '%unique%')::text) FROM reconciled.gap`)
	h.reread()
	if report := h.heal(); report.Blocked != 1 || h.text(`SELECT attempts FROM reconciled.gap`) != "1" {
		t.Errorf("tried before its time: %+v", report.Counts)
	}
	h.exec(`UPDATE reconciled.gap SET next_attempt = now(), attempts = 5`)
	h.heal()
	h.expect("6 1920", `SELECT concat_ws(' ', attempts, round(extract(epoch FROM next_attempt - now()), -1)) FROM reconciled.gap`)
	h.exec(`UPDATE reconciled.gap SET next_attempt = now(), attempts = 50`)
	h.heal()
	h.expect("3600", `SELECT round(extract(epoch FROM next_attempt - now()), -1) FROM reconciled.gap`)
	h.exec(`UPDATE products SET barcode = NULL, updated_at = now() + interval '1 hour', created_at = now() - interval '1 day'`) // edited online
	h.exec(`UPDATE reconciled.gap SET next_attempt = now()`)
	if report := h.heal(); report.Healed != 1 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect("0", `SELECT count(*) FROM reconciled.gap`)
}

func TestI7AFencedGrantWritesNothing(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(aDay()...)
	h.enlist()
	want := h.text(`SELECT count(*) FROM reconciled.worklist`)
	h.exec(`UPDATE reconciled.fence SET epoch = epoch + 1, holder = 'another'`)
	report, err := h.healer.Run(h.ctx, h.grant, nil)
	if !errors.Is(err, lock.ErrFenced) || report.Healed != 0 {
		t.Errorf("report %+v, error %v", report.Counts, err)
	}
	if _, err := h.healer.HealFull(h.ctx, h.grant); !errors.Is(err, lock.ErrFenced) {
		t.Errorf("full: %v", err)
	}
	if rows := h.readModel(); rows != "" {
		t.Errorf("wrote\n%s", rows)
	}
	h.expect("0 0 21", `SELECT concat_ws(' ', (SELECT count(*) FROM reconciled.gap), (SELECT count(*) FROM reconciled.heal_log), (SELECT count(*) FROM events WHERE projection_status = 'pending'))`)
	h.expect(want, `SELECT count(*) FROM reconciled.worklist`)
}

// dying is a store that fails at one call, as a killed process does.
type dying struct {
	healer.Store
	calls int // until death
}

var errKilled = errors.New("killed")

func (d *dying) die() error {
	if d.calls--; d.calls == 0 {
		return errKilled
	}
	return nil
}

// Apply dies after the transaction: what it did is not known to the run.
func (d *dying) Apply(ctx context.Context, grant lock.Grant, heals []healer.Heal, opts healer.Options) ([]healer.Fate, error) {
	fates, err := d.Store.Apply(ctx, grant, heals, opts)
	if d.die() != nil {
		return nil, lock.ErrFenced // the one error that ends a run at once
	}
	return fates, err
}

func (d *dying) Record(ctx context.Context, grant lock.Grant, open []healer.Gap, closed []uuid.UUID, opts healer.Options) error {
	if err := d.die(); err != nil {
		return err
	}
	return d.Store.Record(ctx, grant, open, closed, opts)
}

func (d *dying) Settle(ctx context.Context, grant lock.Grant, slots []healer.Slot) error {
	if err := d.die(); err != nil {
		return err
	}
	return d.Store.Settle(ctx, grant, slots)
}

func TestI14ARunThatDiesAnywhereIsResumed(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(aDay()...)
	h.heal()
	want := h.readModel()
	for calls := 1; ; calls++ {
		h.empty()
		// A void and payments first, so that gaps are in play.
		h.log(aDay()[11:]...)
		h.heal()
		h.log(aDay()[:11]...)
		h.enlist()
		_, err := healer.New(&dying{postgresStore(h), calls}, healer.Options{}).Run(h.ctx, h.grant, nil)
		h.heal()
		if got := h.readModel(); got != want {
			t.Fatalf("after death at call %d\n%s\nwant\n%s", calls, got, want)
		}
		if err == nil {
			if calls < 5 {
				t.Errorf("only %d calls to die at", calls)
			}
			return
		}
	}
}

// backend stands in for the POS's poller: it holds outbox entries in one
// transaction while it projects their events in others, with ids of its own.
func (h *healing) backend(ctx context.Context) (projected int, err error) {
	err = pgx.BeginFunc(ctx, h.site.Owner, func(poll pgx.Tx) error {
		rows, err := poll.Query(ctx, `SELECT event_id::uuid FROM outbox_entries WHERE status = 'pending' AND target = 'projection' AND retry_count < 10
			ORDER BY random() LIMIT 5 FOR UPDATE SKIP LOCKED`)
		if err != nil {
			return err
		}
		events, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			return err
		}
		for _, e := range events {
			err := pgx.BeginFunc(ctx, h.site.Owner, func(tx pgx.Tx) error {
				tag, err := tx.Exec(ctx, `INSERT INTO sales (id, store_id, cash_session_id, sold_at, exchange_rate, currency, totals, payment, customer_id, sold_by_user_id)
					SELECT (payload ->> 'sale_id')::uuid, store_id, (payload ->> 'cash_session_id')::uuid, created_at, 40, 'BS',
						payload -> 'totals' || '{"discount_usd": 0}', payload -> 'payment', (payload #>> '{customer,customer_id}')::uuid, actor_user_id
					FROM events WHERE event_id = $1 AND NOT EXISTS (SELECT FROM sales WHERE id = (payload ->> 'sale_id')::uuid)`, e)
				if err != nil || tag.RowsAffected() == 0 {
					return err
				}
				for _, sql := range []string{
					`INSERT INTO sale_items (id, sale_id, product_id, qty, unit_price_bs, unit_price_usd) SELECT gen_random_uuid(), (payload ->> 'sale_id')::uuid, (i ->> 'product_id')::uuid, 2, 40, 1
						FROM events, jsonb_array_elements(payload -> 'items') i WHERE event_id = $1`,
					`INSERT INTO inventory_movements (id, store_id, product_id, movement_type, qty_delta, happened_at, warehouse_id, ref)
						SELECT gen_random_uuid(), store_id, (i ->> 'product_id')::uuid, 'sold', -2, created_at, '33333333-3333-4333-8333-333333333333', jsonb_build_object('sale_id', payload ->> 'sale_id')
						FROM events, jsonb_array_elements(payload -> 'items') i WHERE event_id = $1`,
					`UPDATE warehouse_stock w SET stock = greatest(0, stock - 2) FROM events, jsonb_array_elements(payload -> 'items') i
						WHERE event_id = $1 AND w.product_id = (i ->> 'product_id')::uuid`,
					`INSERT INTO debts (id, store_id, sale_id, customer_id, created_at, amount_bs, amount_usd) SELECT gen_random_uuid(), store_id, (payload ->> 'sale_id')::uuid, (payload #>> '{customer,customer_id}')::uuid, created_at, 80, 2
						FROM events WHERE event_id = $1`,
				} {
					if _, err := tx.Exec(ctx, sql, e); err != nil {
						return err
					}
				}
				projected++
				return nil
			})
			if err != nil {
				return err
			}
		}
		_, err = poll.Exec(ctx, `WITH e AS (UPDATE events SET projection_status = 'processed' WHERE event_id = ANY($1))
			UPDATE outbox_entries SET status = 'processed' WHERE event_id::uuid = ANY($1)`, events)
		return err
	})
	return projected, err
}

func TestI4ABackendAtWorkOnTheSameEventsDoublesNothing(t *testing.T) {
	h := newHealing(t, healer.Options{Batch: 7, Grace: time.Millisecond})
	h.log(product("flour", 0), opened(0), customerCreated(0), received("all", 0, flour, 1000))
	h.heal()
	var sales []said
	for i := range 200 {
		sales = append(sales, sold(fmt.Sprint(i), i, onCredit(maria), flour))
	}
	h.log(sales...)
	h.exec(`INSERT INTO outbox_entries (event_id, event_type, store_id, target) SELECT event_id::text, type, store_id, 'projection' FROM events WHERE type = 'SaleCreated'`)
	h.enlist()
	var backends, healed int
	group, ctx := errgroup.WithContext(h.ctx)
	group.Go(func() error {
		for {
			n, err := h.backend(ctx)
			backends += n
			if err != nil || ctx.Err() != nil {
				return err
			}
			var open int
			if err := h.site.Owner.QueryRow(ctx, `SELECT count(*) FROM outbox_entries WHERE status = 'pending'`).Scan(&open); err != nil || open == 0 {
				return err
			}
		}
	})
	group.Go(func() error {
		for {
			report, err := h.healer.Run(ctx, h.grant, nil)
			healed += report.Healed
			if err != nil || report.Failed > 0 {
				return errors.Join(err, fmt.Errorf("%d failed", report.Failed))
			}
			var open int
			if err := h.site.Owner.QueryRow(ctx, `SELECT count(*) FROM outbox_entries WHERE status = 'pending'`).Scan(&open); err != nil || open == 0 {
				return err
			}
		}
	})
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	h.reread()
	if report := h.heal(); report.Healed != 0 {
		t.Errorf("left over: %+v", report.Counts)
	}
	t.Logf("backend projected %d, healer %d", backends, healed)
	if backends+healed != 200 || backends == 0 || healed == 0 {
		t.Errorf("backend projected %d, healer %d, want 200 in all and some of each", backends, healed)
	}
	h.expect("200 200 201 200 600.000 600.000", `SELECT concat_ws(' ', (SELECT count(*) FROM sales), (SELECT count(*) FROM sale_items),
		(SELECT count(*) FROM inventory_movements), (SELECT count(*) FROM debts), (SELECT sum(qty_delta) FROM inventory_movements), (SELECT stock FROM warehouse_stock))`)
	h.expect("0", `SELECT count(*) FROM reconciled.gap`)
}

func TestI4ABackendThatIsMovingStockIsNotHeldUp(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(product("flour", 0), opened(0), received("ten", 1, flour, 10))
	h.heal()
	h.log(received("more", 2, flour, 5))
	h.enlist()
	tx, err := h.site.Owner.Begin(h.ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(h.ctx)
	for _, sql := range []string{
		`INSERT INTO inventory_movements (id, store_id, product_id, movement_type, qty_delta, happened_at, warehouse_id)
			SELECT gen_random_uuid(), store_id, product_id, 'sold', -3, now(), warehouse_id FROM inventory_movements`,
		`UPDATE warehouse_stock SET stock = stock - 3`,
	} {
		if _, err := tx.Exec(h.ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	if report := h.heal(); report.Backend != 1 || report.Healed != 0 {
		t.Errorf("while the shop holds the row: %+v", report.Counts)
	}
	if err := tx.Commit(h.ctx); err != nil {
		t.Fatal(err)
	}
	h.exec(`UPDATE reconciled.worklist SET not_before = now()`)
	h.heal()
	h.expect("12.000 12.000", `SELECT stock || ' ' || (SELECT sum(qty_delta) FROM inventory_movements) FROM warehouse_stock`)
}

func TestWhatABackendHoldsIsLeftToIt(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(product("flour", 0), product("rice", 1))
	h.exec(`INSERT INTO outbox_entries (event_id, event_type, store_id, target) SELECT event_id::text, type, store_id, 'projection' FROM events`)
	tx, err := h.site.Owner.Begin(h.ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(h.ctx)
	if _, err := tx.Exec(h.ctx, `SELECT FROM outbox_entries WHERE event_id::uuid = $1 FOR UPDATE`, id("event product flour")); err != nil {
		t.Fatal(err)
	}
	if report := h.heal(); report.Healed != 1 || report.Backend != 1 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect("rice", `SELECT name FROM products`)
	h.expect("true", `SELECT not_before > now() FROM reconciled.worklist`)
}

// The plan says that the sale is not voided; by the time it is written, it is.
func TestADebtIsNotMadeForASaleThatIsVoidedMeanwhile(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(product("flour", 0), opened(1), customerCreated(1), sold("one", 2, nil, flour))
	h.heal()
	h.log(owes("one", 3, id("sale one")))
	h.enlist()
	racing := &voiding{Store: postgresStore(h), h: h}
	report, err := healer.New(racing, healer.Options{}).Run(h.ctx, h.grant, nil)
	if err != nil || report.Semantic != 1 || report.Healed != 0 {
		t.Errorf("report %+v, %v", report.Counts, err)
	}
	h.expect("0", `SELECT count(*) FROM debts`)
}

// voiding voids every sale just before the first write.
type voiding struct {
	healer.Store
	h    *healing
	done bool
}

func (v *voiding) Apply(ctx context.Context, grant lock.Grant, heals []healer.Heal, opts healer.Options) ([]healer.Fate, error) {
	if !v.done {
		v.h.exec(`UPDATE sales SET voided_at = now()`)
		v.done = true
	}
	fates, err := v.Store.Apply(ctx, grant, heals, opts)
	if err == nil && !slices.ContainsFunc(fates, func(f healer.Fate) bool { return f.Kind == healer.Raced }) {
		v.h.Errorf("fates %v, want a race", fates)
	}
	return fates, err
}
