package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/fleet"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
)

// folded is a store whose read model is held against an independent fold of its log.
type folded struct {
	testing.TB
	site   *postgrestest.Site
	ref    fleet.Reference
	healer *healer.Healer
	grant  lock.Grant
}

func newFolded(t testing.TB, ref fleet.Reference) *folded {
	t.Helper()
	site := postgrestest.New(t)
	if err := ref.Insert(t.Context(), site.Owner); err != nil {
		t.Fatal(err)
	}
	return &folded{
		TB: t, site: site, ref: ref, grant: site.Grant(t, shop),
		healer: healer.New(postgres.NewHealing(site.DB), healer.Options{Grace: time.Nanosecond}),
	}
}

// everythingSold is a shop that does all that there is to do.
func everythingSold(seed uint64) *fleet.Shop {
	return fleet.NewShop(fleet.Options{
		Seed: seed, Store: shop, Start: time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC), Devices: 4, ClockSkew: 20 * time.Minute,
		DeadClock: true, Conflicts: true, Rarities: true,
	})
}

func (f *folded) arrive(events []velox.Event) {
	f.Helper()
	if _, err := fleet.Insert(f.Context(), f.site.Owner, events, fleet.InsertOptions{Outbox: fleet.OutboxProcessed, Relayed: true}); err != nil {
		f.Fatal(err)
	}
}

// exec runs SQL as a superuser.
func (f *folded) exec(sql string) {
	f.Helper()
	if err := f.site.Server.Exec(f.Context(), f.site.Name, sql); err != nil {
		f.Fatal(err)
	}
}

// heal drains the log's changes and runs the healer.
func (f *folded) heal() healer.Report {
	f.Helper()
	if _, err := postgres.NewLog(f.site.DB).Pin(f.Context(), shop); err != nil {
		f.Fatal(err)
	}
	f.grant.Run = uuid.New()
	report, err := f.healer.Run(f.Context(), f.grant, nil)
	if err != nil {
		f.Fatal(err)
	}
	return report
}

// differences of the read model from the fold of what the log holds.
func (f *folded) differences() []string {
	f.Helper()
	events, err := fleet.Read(f.Context(), f.site.Owner, shop)
	if err != nil {
		f.Fatal(err)
	}
	got, err := fleet.Load(f.Context(), f.site.Owner, shop)
	if err != nil {
		f.Fatal(err)
	}
	return fleet.DiffUnsplit(fleet.Fold(events, f.ref), got)
}

func (f *folded) wantFold(when string) {
	f.Helper()
	for i, line := range f.differences() {
		if i == 6 {
			f.Errorf("%s: and more", when)
			return
		}
		f.Errorf("%s: %s", when, line)
	}
}

func TestI5HealedFromNothingIsTheFoldOfTheLog(t *testing.T) {
	shop := everythingSold(11)
	events := shop.Trade(2500)
	f := newFolded(t, shop.Reference())
	f.arrive(events)
	report := f.heal()
	t.Logf("%+v", report.Counts)
	f.wantFold("healed at once")
	f.Log(f.gaps())
	if again := f.heal(); again.Healed != 0 {
		t.Errorf("healed again: %+v", healedTypes(again))
	}
	if _, err := f.healer.HealFull(t.Context(), f.grant); err != nil {
		t.Fatal(err)
	}
	if again := f.heal(); again.Healed != 0 || again.Failed != 0 {
		t.Errorf("looked at again: %+v", healedTypes(again))
	}
	f.wantFold("looked at again")
}

func TestI4AnyArrivalOrderOfADayGivesTheFold(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			shop := everythingSold(100 + seed)
			events := shop.Trade(500)
			f := newFolded(t, shop.Reference())
			rng := rand.New(rand.NewPCG(seed, 1))
			rng.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
			for len(events) > 0 {
				n := min(len(events), 1+rng.IntN(150))
				f.arrive(events[:n])
				events = events[n:]
				f.heal()
			}
			f.exec(`UPDATE reconciled.gap SET next_attempt = now()`) // what is tried by the clock
			f.heal()
			f.wantFold("all arrived")
		})
	}
}

// gaps prints what is open, by type and class.
func (f *folded) gaps() string {
	f.Helper()
	var text string
	err := f.site.DB.Pool.QueryRow(f.Context(), `SELECT coalesce(string_agg(concat_ws(' ', n, type, class, reason), '; '), '') FROM (
		SELECT type, class, min(reason) AS reason, count(*) AS n FROM reconciled.gap WHERE class <> 'semantic' GROUP BY 1, 2) g`).Scan(&text)
	if err != nil {
		f.Fatal(err)
	}
	return text
}

func healedTypes(r healer.Report) map[velox.Type]int {
	types := map[velox.Type]int{}
	for t, c := range r.ByType {
		if c.Healed+c.Failed > 0 {
			types[t] = c.Healed + c.Failed
		}
	}
	return types
}

// What a rough pass finds: rows that are missing, numbers and amounts that differ.
var rough = [][]fleet.RowFault{
	{
		fleet.SalesWithoutRows(7, false), fleet.SalesWithoutItems(5), fleet.SalesShortOfAnItem(5), fleet.SalesWithoutMovements(5),
		fleet.VoidsWithoutReversal(3), fleet.PaymentsMissing(3), fleet.CustomersMissing(3), fleet.SessionsLeftOpen(2), fleet.MovementsMissing(5),
	},
	{
		fleet.SalesWithoutRows(7, true), fleet.DebtsMissing(3), fleet.PaymentsWithoutEffect(3), fleet.ProductsMissing(3),
		fleet.UpdatesLost(3), fleet.EarlyVoids(2), fleet.LedgerMissing(5), fleet.QuotasMissing(1, true), fleet.PlaceholdersLeft(2),
	},
	{
		fleet.DebtsResurrected(2), fleet.VoidsIgnored(2), fleet.DebtsAltered(3), fleet.PaymentsAltered(3), fleet.LedgerAltered(3),
		fleet.MovementsAltered(3), fleet.MovementsWithoutVariant(3),
	},
}

// What takes a comparison of every value.
var fine = [][]fleet.RowFault{{
	fleet.SalesAltered(5), fleet.ItemsAltered(5), fleet.ProductsAltered(3), fleet.SessionsAltered(2), fleet.DiscountsDropped(5),
	fleet.CustomerChangesSwallowed(3), fleet.CustomerFieldsDropped(3),
}, {
	fleet.ProductChangesSwallowed(3), fleet.PricesZeroed(3), fleet.RecipesMissing(2),
}}

func TestI5EveryFaultOfAReadModelIsHealedBackToTheFold(t *testing.T) {
	ctx := t.Context()
	trading := everythingSold(12)
	events := trading.Trade(3000)
	f := newFolded(t, trading.Reference())
	f.arrive(events)
	owner, err := pgxpool.New(ctx, f.site.Server.URL("postgres", f.site.Name))
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close()
	if err := fleet.NewBackend(owner, fleet.BackendOptions{}).ProjectAll(ctx, shop); err != nil {
		t.Fatal(err)
	}
	f.exec(`VACUUM ANALYZE`) // of a log that was just written the planner knows nothing
	if report := f.heal(); report.Healed+report.Failed > 0 {
		t.Errorf("nothing is wrong yet: %v", healedTypes(report))
	}
	f.wantFold("before any fault")
	// Of what is whole only quotas are suspect, whose markers the sift cannot tell.
	var quotas int64
	err = owner.QueryRow(ctx, `SELECT count(DISTINCT reconciled.slot(created_at)) FROM events WHERE type LIKE 'StockQuota%'`).Scan(&quotas)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := f.healer.Sift(ctx, f.grant, nil); n > quotas || err != nil {
		t.Errorf("%d slots of whole read models are suspect, %v; want at most %d", n, err, quotas)
	}
	sift := func() error { _, err := f.healer.Sift(ctx, f.grant, nil); return err }
	full := func() error { _, err := f.healer.HealFull(ctx, f.grant); return err }
	for _, pass := range []struct {
		name   string
		look   func() error
		faults [][]fleet.RowFault
	}{{"rough", sift, rough}, {"fine", full, fine}} {
		for i, faults := range pass.faults {
			t.Run(fmt.Sprint(pass.name, " ", i), func(t *testing.T) {
				f := &folded{TB: t, site: f.site, ref: f.ref, healer: f.healer, grant: f.grant}
				for _, fault := range faults {
					before := len(f.differences())
					if _, err := fault.Plant(ctx, owner, fleet.Store, shop); err != nil {
						t.Fatal(err)
					}
					if len(f.differences()) <= before {
						t.Errorf("%s left no trace", fault.Name)
					}
				}
				// No trigger has seen any of it.
				if err := pass.look(); err != nil {
					t.Fatal(err)
				}
				if report := f.heal(); report.Healed < len(faults) || report.Failed+report.Blocked > 0 {
					t.Errorf("report %+v; open: %s", report.Counts, f.gaps())
				}
				f.wantFold("healed")
				f.heal() // looks at what the first has changed
				if again := f.heal(); again.Healed+again.Failed > 0 {
					t.Errorf("healed again: %v", healedTypes(again))
				}
			})
		}
	}
}
