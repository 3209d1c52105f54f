package postgres_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/health"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/lock"
)

// counter is where numbers are given out: two stores, the first with series A and B,
// the second with a series of its own whose code is A, too.
type counter struct {
	testing.TB
	site   *postgrestest.Site
	log    *postgres.Log
	fiscal *postgres.Fiscal
	grant  lock.Grant
}

func newCounter(t testing.TB) counter {
	t.Helper()
	s, log := site(t)
	s.AddStore(t, otherShop)
	c := counter{t, s, log, postgres.NewFiscal(log), s.Grant(t, shop)}
	c.exec(`INSERT INTO invoice_series (id, store_id, series_code, name, created_at) VALUES
		($1, $4, 'A', 'A', '2020-01-01'), ($2, $4, 'B', 'B', '2020-01-02'), ($3, $5, 'A', 'A', '2020-01-03')`,
		id("A"), id("B"), id("their A"), shop, otherShop)
	return c
}

func (c counter) exec(sql string, args ...any) {
	c.Helper()
	exec(c.TB, c.site.Owner, sql, args...)
}

// row inserts a sale's row; number and series may be nil.
func (c counter) row(sale string, number, series any) {
	c.Helper()
	c.rowIn(shop, sale, number, series)
}

func (c counter) rowIn(store uuid.UUID, sale string, number, series any) {
	c.Helper()
	c.exec(`INSERT INTO sales (id, store_id, sold_at, currency, totals, payment, fiscal_number, invoice_series_id)
		VALUES ($1, $2, $3, 'BS', '{}', '{}', $4, $5)`, id("sale "+sale), store, morning, number, series)
}

// said logs a sale's event, of till A; more is what its payload says beside the sale.
func (c counter) said(sale string, more map[string]any) uuid.UUID {
	c.Helper()
	body := map[string]any{"sale_id": id("sale " + sale)}
	for k, v := range more {
		body[k] = v
	}
	return c.event(shop, "SaleCreated", tillA, morning, body)
}

func (c counter) event(store uuid.UUID, kind string, device uuid.UUID, at time.Time, body any) uuid.UUID {
	c.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		c.Fatal(err)
	}
	event := uuid.New()
	c.exec(`INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload, delta_payload)
		VALUES ($1, $2, $3, 1, $4, 1, $5, $6::text::jsonb, $6::text::jsonb)`, event, store, device, kind, at, string(text))
	return event
}

// numbered is what an event says of a number.
func numbered(number, series any) map[string]any {
	return map[string]any{"fiscal_number": number, "invoice_series_id": series}
}

func (c counter) follow(stores ...uuid.UUID) {
	c.Helper()
	for _, store := range append(stores, shop) {
		if err := c.fiscal.Follow(c.Context(), store); err != nil {
			c.Fatal(err)
		}
	}
}

// want follows the store's numbers and wants these duplicates: series and number, and
// the sales that have it, voided ones in brackets.
func (c counter) want(want ...string) {
	c.Helper()
	c.follow()
	c.wantIn(postgres.FiscalScope{Stores: []uuid.UUID{shop}}, want...)
}

func (c counter) wantIn(scope postgres.FiscalScope, want ...string) {
	c.Helper()
	list, total, err := c.fiscal.Duplicates(c.Context(), scope, 100)
	if err != nil || total != len(list) {
		c.Fatalf("%d of %d duplicates, %v", len(list), total, err)
	}
	if got, want := c.spell(list), strings.Join(want, "; "); got != want {
		c.Errorf("duplicates %q\nwant       %q", got, want)
	}
}

func (c counter) spell(list []postgres.FiscalNumber) string {
	names := map[string]string{}
	for _, name := range []string{"one", "two", "three", "four", "theirs"} {
		names[id("sale "+name).String()] = name
	}
	var lines []string
	for _, n := range list {
		var sales []string
		for _, s := range n.Sales {
			name := names[s.String()]
			if name == "" {
				name = s.String()
			}
			if s.Voided {
				name = "(" + name + ")"
			}
			if s.Store == otherShop {
				name += "@other"
			}
			sales = append(sales, name)
		}
		slices.SortFunc(sales, func(a, b string) int { return cmp.Compare(strings.Trim(a, "()"), strings.Trim(b, "()")) })
		lines = append(lines, n.Code+"/"+n.Number+": "+strings.Join(sales, " "))
	}
	return strings.Join(lines, "; ")
}

func (c counter) measured(central bool) health.Snapshot {
	c.Helper()
	s := health.Snapshot{Central: central}
	if err := postgres.NewHealth(c.log).Measure(c.Context(), shop, &s); err != nil {
		c.Fatal(err)
	}
	return s
}

// details are what a measurement names of one kind.
func details(s health.Snapshot, kind string) string {
	var lines []string
	for _, a := range s.Details {
		if a.Kind == kind {
			lines = append(lines, a.ID+": "+a.Text)
		}
	}
	return strings.Join(lines, "; ")
}

func TestI12AFiscalNumberOfTwoSalesIsFoundAndNothingElse(t *testing.T) {
	void := func(c counter, sale string) {
		c.exec(`UPDATE sales SET voided_at = now() WHERE id = $1`, id("sale "+sale))
	}
	voids := func(c counter, store uuid.UUID, sale any) {
		c.event(store, "SaleVoided", tillA, morning.Add(-time.Hour), map[string]any{"sale_id": sale})
	}
	both := func(c counter) { c.row("one", "777", id("A")); c.row("two", "777", id("A")) }
	for name, plant := range map[string]struct {
		plant func(c counter)
		want  string
	}{
		"two rows":                       {both, "A/777: one two"},
		"three rows":                     {func(c counter) { both(c); c.row("three", "777", id("A")) }, "A/777: one three two"},
		"a row and a sale that has none": {func(c counter) { c.row("one", "777", id("A")); c.said("two", numbered(777, id("A"))) }, "A/777: one two"},
		"two sales that have no row":     {func(c counter) { c.said("one", numbered("777", id("A"))); c.said("two", numbered(777, id("A"))) }, "A/777: one two"},
		"one sale in a row and an event": {func(c counter) { c.row("one", "777", id("A")); c.said("one", numbered(777, id("A"))) }, ""},
		"one sale in two events":         {func(c counter) { c.said("one", numbered(777, id("A"))); c.said("one", numbered("777", id("A"))) }, ""},
		"a row with another than its event": {func(c counter) {
			c.row("one", "1", id("A"))
			c.said("one", numbered(777, id("A")))
			c.row("two", "777", id("A"))
		}, "A/777: one two"},
		"another series": {func(c counter) {
			c.row("one", "777", id("A"))
			c.row("two", "777", id("B"))
			c.said("three", numbered(777, id("C")))
		}, ""},
		"another store":                     {func(c counter) { c.row("one", "777", id("A")); c.rowIn(otherShop, "theirs", "777", id("A")) }, ""},
		"no series is the first active one": {func(c counter) { c.row("one", "777", id("A")); c.said("two", numbered(777, nil)) }, "A/777: one two"},
		"no series is not the second one":   {func(c counter) { c.row("one", "777", id("B")); c.row("two", "777", nil) }, ""},
		"the row's series, where the event says none": {func(c counter) {
			c.row("one", "777", id("B"))
			c.said("one", numbered(777, nil))
			c.row("two", "777", id("A"))
			c.row("three", "777", id("B"))
		}, "B/777: one three"},
		"no number": {func(c counter) {
			for i, none := range []any{nil, "", "  ", "0", "000", "N/A", nil} {
				c.row(fmt.Sprint("none ", i), none, id("A"))
				c.said(fmt.Sprint("said none ", i), numbered(none, id("A")))
			}
		}, ""},
		"voided in its row":  {func(c counter) { both(c); void(c, "two") }, ""},
		"voided by an event": {func(c counter) { both(c); voids(c, shop, id("sale two")) }, ""},
		"voided before it was there": {func(c counter) {
			voids(c, shop, id("sale two"))
			c.row("one", "777", id("A"))
			c.said("two", numbered(777, id("A")))
		}, ""},
		"voided with two left":         {func(c counter) { both(c); c.row("three", "777", id("A")); void(c, "one") }, "A/777: (one) three two"},
		"a reason alone voids nothing": {func(c counter) { both(c); c.exec(`UPDATE sales SET void_reason = 'devuelto'`) }, "A/777: one two"},
		"a void of another sale":       {func(c counter) { both(c); voids(c, shop, id("sale three")); voids(c, shop, nil) }, "A/777: one two"},
		"a void of another store":      {func(c counter) { both(c); voids(c, otherShop, id("sale two")) }, "A/777: one two"},
		"the number was put right": {func(c counter) {
			both(c)
			c.follow()
			c.exec(`UPDATE sales SET fiscal_number = '778' WHERE id = $1`, id("sale two"))
		}, ""},
		"the number was put wrong": {func(c counter) {
			c.row("one", "777", id("A"))
			c.row("two", "778", id("A"))
			c.follow()
			c.exec(`UPDATE sales SET fiscal_number = '777'`)
		}, "A/777: one two"},
		"the number came later": {func(c counter) {
			c.row("one", "777", id("A"))
			c.row("two", nil, id("A"))
			c.follow()
			c.exec(`UPDATE sales SET fiscal_number = '777'`)
		}, "A/777: one two"},
		"the series was put right": {func(c counter) {
			both(c)
			c.follow()
			c.exec(`UPDATE sales SET invoice_series_id = $2 WHERE id = $1`, id("sale two"), id("B"))
		}, ""},
		"the series was put wrong": {func(c counter) {
			c.row("one", "777", id("A"))
			c.row("two", "777", id("B"))
			c.follow()
			c.exec(`UPDATE sales SET invoice_series_id = $1`, id("B"))
		}, "B/777: one two"},
		"the row is gone": {func(c counter) { both(c); c.follow(); c.exec(`DELETE FROM sales WHERE id = $1`, id("sale two")) }, ""},
		"the row is gone, not the event": {func(c counter) {
			both(c)
			c.said("two", numbered(777, id("A")))
			c.follow()
			c.exec(`DELETE FROM sales WHERE id = $1`, id("sale two"))
		}, "A/777: one two"},
		"a default that was changed since": {func(c counter) {
			c.row("one", "777", nil)
			c.follow()
			c.exec(`UPDATE invoice_series SET is_active = false WHERE id = $1`, id("A"))
			c.row("two", "777", id("B"))
		}, ""},
		"what was overwritten counts as it was said": {func(c counter) {
			c.row("one", "777", id("A"))
			c.exec(`UPDATE events SET payload = '{}' WHERE event_id = $1`, c.said("two", numbered(777, id("A"))))
		}, "A/777: one two"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCounter(t)
			plant.plant(c)
			for range 2 { // a second look tells the same
				if plant.want == "" {
					c.want()
				} else {
					c.want(plant.want)
				}
			}
		})
	}
}

// Each pair is one number, or two, for reasons that docs/decisions/0014 gives.
func TestI12SpellingsOfOneNumberAreOneNumber(t *testing.T) {
	c := newCounter(t)
	for i, pair := range []struct {
		a, b any
		same bool
	}{
		{"777", " 777 ", true},
		{"777", "\t777\n", true},
		{"777", "\u00a0777", true},
		{"777", "000777", true},
		{777, "00777", true},
		{json.Number("777.0"), "777", true},
		{json.Number("7.77e2"), 777, true},
		{"F-00777", "f-777", true},
		{"z1-00010", "Z1-10", true},
		{"777", "1777", false},
		{"777", "7770", false},
		{"A-777", "B-777", false},
		{"A-777", "777", false},
		{"Z01-777", "Z1-777", false}, // two printers
		{"777.05", "777.5", false},
		{"7 77", "777", false},
	} {
		n := fmt.Sprint("pair ", i, " ")
		c.exec(`INSERT INTO invoice_series (id, store_id, series_code, name) VALUES ($1, $2, $3, '')`, id(n), shop, fmt.Sprint(i))
		c.said(n+"a", numbered(pair.a, id(n)))
		c.said(n+"b", numbered(pair.b, id(n)))
		if text, ok := pair.b.(string); ok {
			c.row(n+"b", text, id(n)) // the same sale
		}
		c.follow()
		list, _, err := c.fiscal.Duplicates(t.Context(), postgres.FiscalScope{Stores: []uuid.UUID{shop}}, 100)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, d := range list {
			found = found || d.Series == id(n)
		}
		if found != pair.same {
			t.Errorf("%v and %v: one number is %v, want %v", pair.a, pair.b, found, pair.same)
		}
	}
}

func TestI12OddNumbersAndIDsBreakNothing(t *testing.T) {
	c := newCounter(t)
	for i, odd := range []any{
		1e30, json.Number("1e400"), json.Number("123456789012345678901234567890"), -5, 0.5, true,
		[]any{777},
		map[string]any{"n": 777},
		strings.Repeat("7", 101), strings.Repeat("7", 100_000), "=777+1", "７７７", "'; DROP TABLE sales; --",
	} {
		c.said(fmt.Sprint("odd ", i), numbered(odd, id("A")))
	}
	c.event(shop, "SaleCreated", tillA, morning, []any{"no object"})
	c.event(shop, "SaleCreated", tillA, morning, "no object")
	c.event(shop, "SaleCreated", tillA, morning, nil)
	for at, sale := range map[string]any{"infinity": 5, "-infinity": []any{}} {
		c.exec(`UPDATE events SET created_at = $2::text::timestamptz WHERE event_id = $1`,
			c.event(shop, "SaleCreated", tillA, morning, map[string]any{"sale_id": sale, "fiscal_number": "X1"}), at)
	}
	c.event(shop, "SaleVoided", tillA, morning, []any{"no object"})
	series := map[string]any{"sale_id": id("sale one"), "fiscal_number": 5, "invoice_series_id": "no uuid"}
	c.event(shop, "SaleCreated", tillA, morning, series)
	for range 2 { // one sale
		c.event(shop, "SaleCreated", tillA, morning, map[string]any{"sale_id": "not-a-uuid", "fiscal_number": 777})
	}
	c.row("two", "5", id("A"))
	c.follow()
	list, _, err := c.fiscal.Duplicates(t.Context(), postgres.FiscalScope{Stores: []uuid.UUID{shop}}, 100)
	if err != nil || len(list) != 1 || list[0].Number != "X1" || len(list[0].Sales) != 2 || list[0].Sales[0].Sale.Valid {
		t.Fatalf("%+v, %v", list, err)
	}
	// A sale with a malformed id has its number even so, until it is voided.
	c.row("one", "777", id("A"))
	if got := details(c.measured(false), "fiscal_duplicate"); !strings.Contains(got, "777: series A, sales ") ||
		strings.Count(strings.SplitN(got, ";", 2)[0], "event:") != 1 || !strings.Contains(got, id("sale one").String()) {
		t.Errorf("health names %q", got)
	}
	c.event(shop, "SaleVoided", tillA, morning, map[string]any{"sale_id": "not-a-uuid"})
	if got := details(c.measured(false), "fiscal_duplicate"); strings.Contains(got, "777:") {
		t.Errorf("health names %q", got)
	}
}

func TestAnIDInCapitalsIsTheSameID(t *testing.T) {
	c := newCounter(t)
	c.row("one", "777", id("A"))
	c.event(shop, "SaleCreated", tillA, morning, map[string]any{
		"sale_id": strings.ToUpper(id("sale one").String()), "fiscal_number": 777, "invoice_series_id": strings.ToUpper(id("A").String()),
	})
	c.want()
	c.event(shop, "SaleCreated", tillA, morning, map[string]any{"sale_id": strings.ToUpper(id("sale two").String()), "fiscal_number": 777})
	c.want("A/777: one two")
	c.event(shop, "SaleVoided", tillA, morning, map[string]any{"sale_id": strings.ToUpper(id("sale two").String())})
	c.want()
}

func TestHealthNamesTwentyDuplicatesAndCountsAll(t *testing.T) {
	c := newCounter(t)
	for i := range 25 {
		number := fmt.Sprint(1000 + i)
		c.row(fmt.Sprint("a", i), number, id("A"))
		c.row(fmt.Sprint("b", i), number, id("A"))
	}
	s := c.measured(false)
	if named := strings.Count(details(s, "fiscal_duplicate"), "series A, sales "); s.More.FiscalDuplicateCount != 25 || named != 20 {
		t.Errorf("%d duplicates, %d named", s.More.FiscalDuplicateCount, named)
	}
	want := fmt.Sprintf("A/1000: series A, sales %s %s; A/1001:", min(id("sale a0").String(), id("sale b0").String()), max(id("sale a0").String(), id("sale b0").String()))
	if got := details(s, "fiscal_duplicate"); !strings.HasPrefix(got, want) {
		t.Errorf("named %q, want %q first", got, want)
	}
}
