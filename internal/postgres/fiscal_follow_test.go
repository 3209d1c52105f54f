package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/testkit"
)

func TestANumberThatCommitsLateIsNotLost(t *testing.T) {
	c := newCounter(t)
	c.row("one", "777", id("A"))
	c.said("one", numbered(777, id("A")))
	late, err := c.site.Owner.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec(t, late, `INSERT INTO sales (id, store_id, sold_at, currency, totals, payment, fiscal_number, invoice_series_id)
		VALUES ($1, $2, now(), 'BS', '{}', '{}', '777', $3)`, id("sale two"), shop, id("A"))
	exec(t, late, `INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload)
		VALUES ($1, $2, $2, 1, 'SaleCreated', 1, $3, jsonb_build_object('sale_id', $4::text, 'fiscal_number', 777))`, id("late"), shop, morning, id("sale three").String())
	c.said("four", numbered(778, id("A"))) // a later one of the same slot commits first
	c.want()
	if err := late.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.want("A/777: one three two")
}

// Of two stores that add one number at the same time each has added it before the other
// commits. The second waits for the first, and sees it.
func TestI12StoresThatAddANumberAtTheSameTimeAreBothTold(t *testing.T) {
	c := newCounter(t)
	c.row("one", "1", id("A"))
	c.rowIn(otherShop, "theirs", "2", id("A"))
	c.follow(otherShop)
	c.row("two", "777", id("A"))
	c.rowIn(otherShop, "three", "777", id("A"))
	holder, err := pgx.Connect(t.Context(), c.site.Server.URL("postgres", c.site.Name))
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close(context.WithoutCancel(t.Context()))
	exec(t, holder, `BEGIN`)
	exec(t, holder, `SELECT FROM reconciled.fiscal_series FOR UPDATE`)
	var both sync.WaitGroup
	for _, store := range []uuid.UUID{shop, otherShop} {
		both.Go(func() {
			if err := c.fiscal.Follow(context.WithoutCancel(t.Context()), store); err != nil {
				t.Error(err)
			}
		})
	}
	testkit.Eventually(t, 20*time.Second, "both have added it and wait for its series", func() bool {
		return number(t, c.site, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%fiscal_series%'`) == 2
	})
	exec(t, holder, `COMMIT`)
	both.Wait()
	for _, store := range []uuid.UUID{shop, otherShop} {
		c.wantIn(postgres.FiscalScope{Stores: []uuid.UUID{store}, Across: true}, "A/777: three@other two")
	}
}

// trade lets tills sell until stop, some in transactions that roll back. Sales of both
// stores draw their numbers from a few, in the same series: many have been taken.
func (c counter) trade(tills int) (stop func()) {
	c.Helper()
	ctx, cancel := context.WithCancel(c.Context())
	var all sync.WaitGroup
	for till := range tills {
		all.Go(func() {
			dice := rand.New(rand.NewPCG(uint64(till), 1))
			for ctx.Err() == nil {
				if err := c.sell(ctx, dice); err != nil && ctx.Err() == nil {
					c.Error(err)
					return
				}
			}
		})
	}
	return func() { cancel(); all.Wait() }
}

func (c counter) sell(ctx context.Context, dice *rand.Rand) error {
	store, series := []uuid.UUID{shop, otherShop}[dice.IntN(2)], []any{id("A"), id("B"), nil}[dice.IntN(3)]
	sale, drawn, kind := uuid.New(), fmt.Sprintf("%0*d", 1+dice.IntN(4), 1+dice.IntN(5000)), dice.IntN(5)
	err := pgx.BeginFunc(ctx, c.site.Owner, func(tx pgx.Tx) (err error) {
		if kind != 0 {
			_, err = tx.Exec(ctx, `INSERT INTO sales (id, store_id, sold_at, currency, totals, payment, fiscal_number, invoice_series_id)
				VALUES ($1, $2, now(), 'BS', '{}', '{}', $3, $4)`, sale, store, drawn, series)
		}
		if err == nil && kind < 3 {
			_, err = tx.Exec(ctx, `INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload)
				VALUES (gen_random_uuid(), $1, $1, 1, 'SaleCreated', 1, now() - $2 * interval '1 minute',
					jsonb_build_object('sale_id', $3::text, 'fiscal_number', $4::text, 'invoice_series_id', $5::uuid))`,
				store, dice.IntN(100), sale.String(), drawn, series)
		}
		if err == nil && kind == 4 {
			_, err = tx.Exec(ctx, `UPDATE sales SET fiscal_number = $2 WHERE id = $1`, sale, fmt.Sprint(1+dice.IntN(5000)))
		}
		if err == nil && dice.IntN(5) == 0 {
			return errAbandoned
		}
		return err
	})
	if errors.Is(err, errAbandoned) {
		return nil
	}
	return err
}

// taken counts series and numbers that two sales of the stores have, by a query of its
// own; of their own store those that say none have series A, and the other's its own.
func (c counter) taken(stores ...uuid.UUID) int {
	c.Helper()
	return number(c.TB, c.site, `
		WITH said AS (
			SELECT store_id, id AS sale, invoice_series_id AS series, fiscal_number::numeric AS number FROM sales
			UNION SELECT e.store_id, (payload ->> 'sale_id')::uuid, (payload ->> 'invoice_series_id')::uuid, (payload ->> 'fiscal_number')::numeric FROM events e)
		SELECT count(*) FROM (
			SELECT coalesce(series, CASE store_id WHEN $2 THEN $3::uuid ELSE $4::uuid END), number FROM said
			WHERE store_id = ANY($1) AND number > 0 GROUP BY 1, 2 HAVING count(DISTINCT sale) > 1) d`, stores, shop, id("A"), id("their A"))
}

func TestI12FollowingWhileTheShopsTradeLosesAndInventsNothing(t *testing.T) {
	c := newCounter(t)
	c.follow(otherShop)
	stop := c.trade(3)
	follows := 0
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); follows++ {
		c.follow(otherShop)
	}
	stop()
	c.follow(otherShop)
	for name, scope := range map[string]struct {
		postgres.FiscalScope
		stores []uuid.UUID
	}{
		"the store's":   {postgres.FiscalScope{Stores: []uuid.UUID{shop}}, []uuid.UUID{shop}},
		"the other's":   {postgres.FiscalScope{Stores: []uuid.UUID{otherShop}}, []uuid.UUID{otherShop}},
		"of all stores": {postgres.FiscalScope{Stores: []uuid.UUID{shop, otherShop}, Across: true}, []uuid.UUID{shop, otherShop}},
	} {
		_, total, err := c.fiscal.Duplicates(t.Context(), scope.FiscalScope, 1)
		if want := c.taken(scope.stores...); err != nil || total != want || want == 0 {
			t.Errorf("%s: %d duplicates, %v, want %d", name, total, err, want)
		}
	}
	t.Logf("%d follows, %d sales", follows, number(t, c.site, `SELECT count(*) FROM sales`))
}

func TestANumberThatCameWhileItsTriggerWasOffIsFound(t *testing.T) {
	c := newCounter(t)
	c.row("one", "777", id("A"))
	c.want()
	execSuper(t, c.site, `ALTER TABLE sales DISABLE TRIGGER reconciled_fiscal`)
	c.row("two", "777", id("A"))
	c.want("A/777: one two")
	c.row("three", "777", id("A"))
	c.want("A/777: one three two")
	wantEvidence(t, c.site, "capture")
	if n := number(t, c.site, `SELECT count(*) FROM reconciled.evidence WHERE detail LIKE '%reconciled_fiscal on sales%watch_fiscal_numbers%'`); n != 1 {
		t.Error("the evidence does not name the trigger and what mends it")
	}
	execSuper(t, c.site, `DROP TRIGGER reconciled_fiscal ON sales`)
	c.row("four", "777", id("A"))
	execSuper(t, c.site, `SET ROLE reconciled_migrator; SELECT reconciled.watch_fiscal_numbers()`)
	c.want("A/777: four one three two")
	c.row("theirs", "778", id("A"))
	c.want("A/777: four one three two")
	if n := number(t, c.site, `SELECT count(*) FROM reconciled.fiscal_change`); n != 0 {
		t.Errorf("%d rows in the log", n)
	}
}

func TestANumberThatWentPastEveryTriggerIsFoundAfterTheScrub(t *testing.T) {
	c := newCounter(t)
	c.row("one", "777", id("A"))
	c.said("one", numbered(777, id("A")))
	c.want()
	behind(t, c.site, `INSERT INTO sales (id, store_id, sold_at, currency, totals, payment, fiscal_number, invoice_series_id)
		VALUES ($1, $2, now(), 'BS', '{}', '{}', '777', $3)`, id("sale two"), shop, id("A"))
	behind(t, c.site, `INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload)
		VALUES ($1, $2, $2, 1, 'SaleCreated', 1, $3, jsonb_build_object('sale_id', $4::text, 'fiscal_number', 777))`, id("behind"), shop, morning, id("sale three").String())
	c.want() // it did go past them
	scrub(t, c.log, c.grant, quick)
	c.want("A/777: one three two")
}

func TestTheFirstLookTakesInAllThatWasBefore(t *testing.T) {
	c := newCounter(t)
	c.exec(`INSERT INTO sales (id, store_id, sold_at, currency, totals, payment, fiscal_number)
		SELECT md5(i::text)::uuid, $1, now(), 'BS', '{}', '{}', i FROM generate_series(1, 45000) i`, shop)
	c.exec(`INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload)
		SELECT gen_random_uuid(), $1, $1, i, 'SaleCreated', 1, now() - i * interval '1 hour', jsonb_build_object('sale_id', md5(i::text)::uuid, 'fiscal_number', i)
		FROM generate_series(1, 5000) i`, shop)
	c.row("one", "44000", nil)
	c.said("two", numbered(4000, nil))
	pin(t, c.log)
	// As a database of an earlier release, whose log was drained and whose sales no trigger saw.
	execSuper(t, c.site, `TRUNCATE reconciled.fiscal_change; DELETE FROM reconciled.worklist WHERE consumer = 'fiscal'`)
	c.follow()
	list, total, err := c.fiscal.Duplicates(t.Context(), postgres.FiscalScope{Stores: []uuid.UUID{shop}}, 10)
	if err != nil || total != 2 || list[0].Number != "4000" || list[1].Number != "44000" {
		t.Errorf("%d duplicates: %+v, %v", total, list, err)
	}
	if n := number(t, c.site, `SELECT count(*) FROM reconciled.fiscal_number`); n != 45_002 {
		t.Errorf("%d lines", n)
	}
}

func TestI11TheWatchWritesNothingOfThePOS(t *testing.T) {
	c := newCounter(t)
	c.row("one", " 0777", id("A"))
	c.row("two", "777", id("A"))
	c.said("three", numbered(777, id("A")))
	c.exec(`INSERT INTO fiscal_sequence_ranges (store_id, series_id, device_id, range_start, range_end, used_up_to, expires_at, granted_at)
		VALUES ($1, $2, 'till', 1, 1000, 76, now() + interval '1 day', '2020-01-01')`, shop, id("A"))
	const all = `SELECT hashtext(string_agg(line, '|' ORDER BY line))::int FROM (
		SELECT to_jsonb(t)::text FROM sales t UNION ALL SELECT to_jsonb(t)::text FROM events t UNION ALL SELECT to_jsonb(t)::text FROM invoice_series t
		UNION ALL SELECT to_jsonb(t)::text FROM fiscal_sequence_ranges t UNION ALL SELECT to_jsonb(t)::text FROM fiscal_invoices t) l (line)`
	before := number(t, c.site, all)
	c.follow()
	if s := c.measured(true); s.More.FiscalDuplicateCount != 1 || s.More.FiscalRegressionCount != 1 || s.More.FiscalOutOfRangeCount != 1 {
		t.Errorf("measured %+v", s.More)
	}
	if number(t, c.site, all) != before {
		t.Error("a row of the POS is another")
	}
	for _, table := range []string{"fiscal_number", "fiscal_series", "fiscal_baseline"} {
		if _, err := c.site.DB.Pool.Exec(t.Context(), `DELETE FROM reconciled.`+table); err == nil {
			t.Errorf("the runtime role can delete from %s", table)
		}
	}
}
