package postgres_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// gaveUp makes the shop's log with two sales on credit on which the backend has given
// up, beside a product that it projected a moment ago, or, dead, never.
func gaveUp(t *testing.T, opts healer.Options, alive bool) *healing {
	t.Helper()
	h := newHealing(t, healer.Options{})
	h.log(product("flour", 0), opened(0), customerCreated(0), received("all", 0, flour, 1000))
	h.heal()
	h.healer = healer.New(postgresStore(h), opts)
	h.log(sold("one", 1, onCredit(maria), flour), sold("two", 2, onCredit(maria), flour))
	h.exec(`INSERT INTO outbox_entries (event_id, event_type, store_id, target, status, error, retry_count)
		SELECT event_id::text, type, store_id, unnest('{projection,federation-relay}'::text[]), 'failed', 'x', 10 FROM events WHERE type = 'SaleCreated'`)
	h.exec(`UPDATE events SET projection_status = 'failed', projection_error = 'x' WHERE type = 'SaleCreated'`)
	if alive {
		h.exec(`INSERT INTO products (id, store_id, name) VALUES ($1, $2, 'x')`, id("alive"), shop)
		h.log(event("alive", velox.ProductCreated, 5, map[string]any{"product_id": id("alive"), "name": "x"}))
		h.exec(`INSERT INTO outbox_entries (event_id, event_type, store_id, target, status, processed_at) VALUES ($1, 'ProductCreated', $2, 'projection', 'processed', now())`,
			id("event alive").String(), shop)
	}
	return h
}

const entries = `SELECT string_agg(concat_ws(' ', target, status, retry_count, error), ', ' ORDER BY target DESC, event_id) FROM outbox_entries WHERE event_type = 'SaleCreated'`

func TestWhatTheBackendCanDoIsGivenBackToIt(t *testing.T) {
	h := gaveUp(t, healer.Options{Strategy: healer.RequeueThenNative, Patience: time.Minute}, true)
	if report := h.heal(); report.Requeued != 2 || report.Healed != 0 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect("projection pending 0, projection pending 0, federation-relay failed 10 x, federation-relay failed 10 x", entries)
	h.expect("pending", `SELECT DISTINCT concat_ws(' ', projection_status, projection_error) FROM events WHERE type = 'SaleCreated'`)
	h.expect("0", `SELECT count(*) FROM sales`)
	h.expect("2 2", `SELECT count(*) || ' ' || count(requeued_at) FROM reconciled.gap WHERE class = 'actionable'`)
	// While it waits there it is the backend's.
	h.reread()
	if report := h.heal(); report.Backend != 2 || report.Requeued+report.Healed != 0 {
		t.Errorf("at once: %+v", report.Counts)
	}
	if n, err := h.backend(h.ctx); err != nil || n != 2 {
		t.Fatalf("backend projected %d, %v", n, err)
	}
	h.exec(`UPDATE reconciled.gap SET next_attempt = now()`)
	if report := h.heal(); report.Healed != 0 || report.Failed != 0 {
		t.Errorf("verified: %+v", report.Counts)
	}
	h.expect("0", `SELECT count(*) FROM reconciled.gap`)
	h.expect("2 2", `SELECT concat_ws(' ', count(*) FILTER (WHERE after ->> 'outbox' = 'pending'), count(*) FILTER (WHERE after ->> 'verified' = 'true'))
		FROM reconciled.heal_log WHERE strategy = 'requeue'`)
	h.expect("2 2", `SELECT count(*) || ' ' || (SELECT count(*) FROM sale_items) FROM sales`)
	h.expect("4", `SELECT count(*) FROM outbox_entries WHERE event_type = 'SaleCreated'`)
}

// The backend projects the payload, whoever's it is: an event that lost its own to last
// write wins is not for it.
func TestAnOverwrittenEventIsNotGivenBack(t *testing.T) {
	h := gaveUp(t, healer.Options{Strategy: healer.RequeueThenNative, Patience: time.Minute}, true)
	one, two := sold("one", 1, onCredit(maria), flour), sold("two", 2, onCredit(maria), flour)
	h.overwrites(one, two, true)
	if report := h.heal(); report.Requeued != 1 || report.Healed != 1 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect("1", `SELECT count(*) FROM sales WHERE id = $1`, one.body["sale_id"])
}

func TestWhatTheBackendFailsAtAgainIsHealedNatively(t *testing.T) {
	h := gaveUp(t, healer.Options{Strategy: healer.RequeueThenNative, Patience: time.Minute}, true)
	h.heal()
	h.exec(`UPDATE outbox_entries SET status = 'failed', retry_count = 10 WHERE target = 'projection' AND event_type = 'SaleCreated'`)
	h.exec(`UPDATE reconciled.gap SET next_attempt = now()`)
	if report := h.heal(); report.Healed != 2 || report.Requeued != 0 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect("native 2, requeue 2", `SELECT string_agg(strategy || ' ' || n, ', ' ORDER BY strategy) FROM (
		SELECT strategy, count(*) AS n FROM reconciled.heal_log WHERE type = 'SaleCreated' GROUP BY 1) l`)
	h.expect("2", `SELECT count(*) FROM sales`)
}

func TestABackendThatNeverTakesItUpLosesItWhenPatienceEnds(t *testing.T) {
	h := gaveUp(t, healer.Options{Strategy: healer.RequeueThenNative, Patience: time.Minute}, true)
	h.heal()
	h.exec(`UPDATE reconciled.gap SET next_attempt = now(), requeued_at = now() - interval '2 minutes'`)
	if report := h.heal(); report.Healed != 2 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect("processed", `SELECT DISTINCT status FROM outbox_entries WHERE target = 'projection' AND event_type = 'SaleCreated'`)
}

func TestAGapThatWaitedIsAsOldAsItsClass(t *testing.T) {
	const days, hours = 3 * 24 * 3600, 3 * 3600
	const back = `UPDATE reconciled.gap SET next_attempt = now(), requeued_at = NULL, first_seen = now() - interval '3 days', class_since = now() - $1 * interval '1 s'`
	for name, of := range map[string]func(*testing.T) *healing{
		"given back": func(t *testing.T) *healing {
			return gaveUp(t, healer.Options{Strategy: healer.RequeueThenNative}, true)
		},
		"only written": func(t *testing.T) *healing { return gaveUp(t, healer.Options{Observe: true}, false) },
	} {
		t.Run(name, func(t *testing.T) {
			h := of(t)
			oldest := func(want int64) {
				t.Helper()
				h.exec(`UPDATE outbox_entries SET status = 'failed' WHERE target = 'projection' AND event_type = 'SaleCreated'`)
				h.heal()
				h.expect("2", `SELECT count(*) FROM reconciled.gap WHERE class = 'actionable'`)
				var snapshot health.Snapshot
				if err := postgres.NewHealth(postgres.NewLog(h.site.DB)).Measure(h.ctx, shop, &snapshot); err != nil {
					t.Fatal(err)
				}
				if got := snapshot.More.OldestGapSeconds; got < want || got > want+600 {
					t.Errorf("the oldest gap stands for %d s, want %d", got, want)
				}
			}
			oldest(0)
			h.exec(back, days)
			h.exec(`UPDATE reconciled.gap SET class = 'waiting'`)
			oldest(0)
			h.exec(back, hours)
			oldest(hours)
		})
	}
}

func TestWhereNoBackendIsAtWorkNothingIsGivenBack(t *testing.T) {
	h := gaveUp(t, healer.Options{Strategy: healer.RequeueThenNative}, false)
	if report := h.heal(); report.Healed != 2 || report.Requeued != 0 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect("processed 2", `SELECT string_agg(DISTINCT status, ',') || ' ' || count(*) FROM outbox_entries WHERE target = 'projection'`)
	h.expect(`["journal entry", "message to the customer"]`, `SELECT DISTINCT after ->> 'outstanding' FROM reconciled.heal_log WHERE type = 'SaleCreated'`)
}

func TestAnEventOfWhichAPartIsThereIsNotGivenBack(t *testing.T) {
	h := gaveUp(t, healer.Options{Strategy: healer.RequeueThenNative}, true)
	h.exec(`INSERT INTO inventory_movements (id, store_id, product_id, movement_type, qty_delta, happened_at, warehouse_id, ref)
		SELECT gen_random_uuid(), store_id, $1, 'sold', -2, created_at, $2, jsonb_build_object('sale_id', payload ->> 'sale_id') FROM events WHERE event_id = $3`,
		flour, mainRoom, id("event sale one"))
	if report := h.heal(); report.Healed != 1 || report.Requeued != 1 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect("1 1", `SELECT count(*) || ' ' || (SELECT count(*) FROM inventory_movements WHERE movement_type = 'sold') FROM sales`)
}

func TestRequeueAloneNeverWritesRows(t *testing.T) {
	h := gaveUp(t, healer.Options{Strategy: healer.Requeue}, false)
	h.exec(`DELETE FROM outbox_entries WHERE event_id = $1`, id("event sale two").String())
	if report := h.heal(); report.Healed != 0 || report.Requeued != 1 || report.Actionable != 1 {
		t.Errorf("report %+v", report.Counts)
	}
	h.expect("0", `SELECT count(*) FROM sales`)
	h.expect("true", `SELECT (last_error LIKE 'the strategy is requeue%')::text FROM reconciled.gap WHERE requeued_at IS NULL`)
}

func TestObservingPlansAndBooksAndWritesNothing(t *testing.T) {
	h := newHealing(t, healer.Options{Observe: true, Strategy: healer.RequeueThenNative})
	h.log(aDay()...)
	if report := h.heal(); report.Actionable == 0 || report.Healed+report.Requeued+report.Failed != 0 {
		t.Errorf("report %+v", report.Counts)
	}
	if rows := h.readModel(); rows != "" {
		t.Errorf("wrote\n%s", rows)
	}
	h.expect("true 0", `SELECT (count(*) FILTER (WHERE class = 'actionable') > 0) || ' ' || (SELECT count(*) FROM reconciled.heal_log) FROM reconciled.gap`)
	// The first run that may write heals them.
	h.healer = healer.New(postgresStore(h), healer.Options{})
	h.exec(`UPDATE reconciled.gap SET next_attempt = now()`)
	h.heal()
	h.expect("3", `SELECT count(*) FROM sales`)
	h.expect("0", `SELECT count(*) FROM reconciled.gap WHERE class <> 'semantic'`)
}

func TestALookWritesNothingAtAll(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.log(aDay()...)
	h.enlist()
	h.exec(`INSERT INTO reconciled.leaf (store_id, slot, count, digest, sum, digest_version, version)
		SELECT DISTINCT store_id, reconciled.slot(created_at), 1, ''::bytea, 0, 1, 1 FROM events`)
	before := h.text(`SELECT concat_ws(' ', (SELECT count(*) FROM reconciled.worklist), (SELECT count(*) FROM reconciled.gap), (SELECT count(*) FROM reconciled.heal_log))`)
	for _, full := range []bool{false, true} {
		found := map[projection.Class]int{}
		report, err := h.healer.Look(h.ctx, shop, full, func(g healer.Gap) { found[g.Class]++ })
		if err != nil || report.Checked != 21 || report.Actionable != found[projection.Actionable] || report.Waiting != found[projection.Waiting] || report.Actionable == 0 {
			t.Errorf("full %v: %+v, found %v, %v", full, report.Counts, found, err)
		}
	}
	h.expect(before, `SELECT concat_ws(' ', (SELECT count(*) FROM reconciled.worklist), (SELECT count(*) FROM reconciled.gap), (SELECT count(*) FROM reconciled.heal_log))`)
	if rows := h.readModel(); rows != "" {
		t.Errorf("wrote\n%s", rows)
	}
}

func TestFailedEntriesOfWhatIsThereAreSettled(t *testing.T) {
	h := gaveUp(t, healer.Options{}, false)
	if n, err := h.healer.Run(h.ctx, lock.Grant{Store: shop, Run: uuid.New(), Epoch: h.grant.Epoch, Token: h.grant.Token}, nil); err != nil {
		t.Fatal(n, err)
	}
	h.heal()
	h.exec(`UPDATE outbox_entries SET status = 'failed', retry_count = 10, error = 'x' WHERE target = 'projection'`)
	h.reread()
	h.heal()
	h.expect("processed", `SELECT DISTINCT status FROM outbox_entries WHERE target = 'projection'`)
}
