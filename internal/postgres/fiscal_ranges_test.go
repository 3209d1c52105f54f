package postgres_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/velox"
)

// granted grants a range in the early morning.
func (c counter) granted(store, series uuid.UUID, device any, start, end int, used any, status string) {
	c.Helper()
	c.exec(`INSERT INTO fiscal_sequence_ranges (store_id, series_id, device_id, range_start, range_end, used_up_to, status, granted_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now())`, store, series, fmt.Sprint(device), start, end, used, status, morning.Add(-time.Hour))
}

func TestOverlappingRangesOfTwoDevicesAreFoundAndNothingElse(t *testing.T) {
	for name, c := range map[string]struct {
		plant func(c counter)
		want  string
	}{
		"two devices": {func(c counter) {
			c.granted(shop, id("A"), tillA, 100, 199, 0, "active")
			c.granted(shop, id("A"), tillB, 150, 249, 0, "active")
		}, "A 150-199"},
		"by one number": {func(c counter) {
			c.granted(shop, id("A"), tillA, 100, 150, 0, "active")
			c.granted(shop, id("A"), tillB, 150, 249, 0, "active")
		}, "A 150-150"},
		"three devices, each pair": {func(c counter) {
			for _, till := range []any{tillA, tillB, "caja 3"} {
				c.granted(shop, id("A"), till, 100, 199, 0, "active")
			}
		}, "A 100-199, A 100-199, A 100-199"},
		"a series that is not known here": {func(c counter) {
			c.granted(shop, id("C"), tillA, 100, 199, 0, "active")
			c.granted(shop, id("C"), tillB, 150, 249, 0, "active")
		}, id("C").String() + " 150-199"},
		"one after the other": {func(c counter) {
			c.granted(shop, id("A"), tillA, 100, 149, 0, "active")
			c.granted(shop, id("A"), tillB, 150, 249, 0, "active")
		}, ""},
		"one device": {func(c counter) {
			c.granted(shop, id("A"), tillA, 100, 199, 0, "active")
			c.granted(shop, id("A"), strings.ToUpper(tillA.String()), 150, 249, 0, "active")
		}, ""},
		"another series": {func(c counter) {
			c.granted(shop, id("A"), tillA, 100, 199, 0, "active")
			c.granted(shop, id("B"), tillB, 100, 199, 0, "active")
		}, ""},
		"one is over": {func(c counter) {
			c.granted(shop, id("A"), tillA, 100, 199, 0, "expired")
			c.granted(shop, id("A"), tillB, 100, 199, 0, "active")
		}, ""},
		"another store": {func(c counter) {
			c.granted(shop, id("A"), tillA, 100, 199, 0, "active")
			c.granted(otherShop, id("A"), tillB, 100, 199, 0, "active")
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			at := newCounter(t)
			c.plant(at)
			at.follow(otherShop)
			found, err := at.fiscal.Overlaps(t.Context(), postgres.FiscalScope{Stores: []uuid.UUID{shop}})
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for _, o := range found {
				lines = append(lines, fmt.Sprintf("%s %d-%d", o.Code, o.From, o.To))
			}
			if got := strings.Join(lines, ", "); got != c.want {
				t.Errorf("found %q, want %q", got, c.want)
			}
			if s := at.measured(false); s.More.FiscalRangeOverlapCount != int64(len(lines)) {
				t.Errorf("health counts %d", s.More.FiscalRangeOverlapCount)
			}
		})
	}
}

func TestNumbersOutsideEveryRangeOfTheirDeviceAreFoundAndNothingElse(t *testing.T) {
	said := func(number any) func(c counter) { return func(c counter) { c.said("one", numbered(number, id("A"))) } }
	for name, c := range map[string]struct {
		plant func(c counter)
		want  string
	}{
		"above":                       {said(200), "A/200: one"},
		"below":                       {said("00099"), "A/99: one"},
		"in another device's":         {said(300), "A/300: one"},
		"in a range of another store": {func(c counter) { c.granted(otherShop, id("A"), tillA, 500, 599, 0, "active"); said(500)(c) }, "A/500: one"},
		"and projected":               {func(c counter) { said(200)(c); c.row("one", "200", id("A")) }, "A/200: one"},
		"inside":                      {said(150), ""},
		"inside, with letters before": {said("F-00150"), ""},
		"inside one that is over":     {said(50), ""},
		"no digits at the end":        {said("200-A"), ""},
		"no number":                   {said(nil), ""},
		"the series has no ranges":    {func(c counter) { c.said("one", numbered(200, id("B"))) }, ""},
		"before the first was granted": {func(c counter) {
			c.event(shop, "SaleCreated", tillA, morning.Add(-2*time.Hour), map[string]any{"sale_id": id("sale one"), "fiscal_number": 200})
		}, ""},
		"made online": {func(c counter) {
			c.event(shop, "SaleCreated", velox.ServerDevice, morning, map[string]any{"sale_id": id("sale one"), "fiscal_number": 200})
		}, ""},
		"no event says who made it": {func(c counter) { c.row("one", "200", id("A")) }, ""},
		"voided": {func(c counter) {
			said(200)(c)
			c.event(shop, "SaleVoided", tillA, morning, map[string]any{"sale_id": id("sale one")})
		}, ""},
		"granted a moment later":                     {func(c counter) { said(200)(c); c.follow(); c.granted(shop, id("A"), tillA, 200, 299, 0, "active") }, ""},
		"granted in a series that is not known here": {func(c counter) { c.granted(shop, id("C"), tillA, 200, 299, 0, "active"); said(200)(c) }, ""},
		"its row has another series":                 {func(c counter) { said(200)(c); c.follow(); c.row("one", "200", id("B")) }, ""},
		"its row has a series with ranges": {func(c counter) {
			c.granted(shop, id("B"), tillA, 1, 9, 0, "active")
			c.said("one", numbered(150, nil)) // A's, as long as no row says another
			c.follow()
			c.row("one", "150", id("B"))
		}, "B/150: one"},
	} {
		t.Run(name, func(t *testing.T) {
			at := newCounter(t)
			at.granted(shop, id("A"), tillA, 100, 199, 0, "active")
			at.granted(shop, id("A"), tillA, 50, 59, 59, "exhausted")
			at.granted(shop, id("A"), tillB, 300, 399, 0, "active")
			c.plant(at)
			at.follow()
			list, total, err := at.fiscal.Outside(t.Context(), postgres.FiscalScope{Stores: []uuid.UUID{shop}}, 10)
			if got := at.spell(list); err != nil || got != c.want || total != len(list) {
				t.Errorf("found %q, %v, want %q", got, err, c.want)
			}
			s := at.measured(false)
			if s.More.FiscalOutOfRangeCount != int64(total) {
				t.Errorf("health counts %d", s.More.FiscalOutOfRangeCount)
			}
			if c.want != "" && !strings.HasPrefix(details(s, "fiscal_out_of_range"), c.want[:strings.Index(c.want, ":")]+": series ") {
				t.Errorf("health names %q", details(s, "fiscal_out_of_range"))
			}
		})
	}
}

func TestRangesThatGoBackAreFoundAndNothingElse(t *testing.T) {
	remembers := func(c counter, series string, value int) {
		execSuper(c.TB, c.site, fmt.Sprintf(`INSERT INTO reconciled.highest (store_id, kind, of, value) VALUES ('%s', 'fiscal', '%s', %d)`, shop, series, value))
	}
	for name, c := range map[string]struct {
		plant func(c counter)
		want  string
	}{
		"behind a row":    {func(c counter) { c.row("one", "160", id("A")) }, "A 100-199 used 150 seen 160 in one"},
		"behind an event": {func(c counter) { c.said("one", numbered("F-0160", id("A"))) }, "A 100-199 used 150 seen 160 in one"},
		"behind another device's number": {func(c counter) {
			c.event(shop, "SaleCreated", tillB, morning, map[string]any{"sale_id": id("sale one"), "fiscal_number": 160})
		}, "A 100-199 used 150 seen 160 in one"},
		"behind a voided sale": {func(c counter) { c.row("one", "160", id("A")); c.exec(`UPDATE sales SET voided_at = now()`) }, "A 100-199 used 150 seen 160 in one"},
		"behind the highest of many": {func(c counter) {
			c.row("one", "160", id("A"))
			c.row("two", "199", id("A"))
			c.row("three", "155", id("A"))
		}, "A 100-199 used 150 seen 199 in two"},
		"behind the witness":            {func(c counter) { remembers(c, strings.ToUpper(id("A").String()), 170) }, "A 100-199 used 150 seen 170 in memory"},
		"behind the witness, no series": {func(c counter) { remembers(c, "", 170) }, "A 100-199 used 150 seen 170 in memory"},
		"nothing used": {func(c counter) {
			c.granted(shop, id("A"), tillB, 300, 399, nil, "active")
			c.row("one", "300", id("A"))
		}, "A 300-399 used 0 seen 300 in one"},
		"its series is not known here": {func(c counter) {
			c.granted(shop, id("C"), tillA, 500, 599, 0, "active")
			c.said("one", numbered(510, id("B")))
		}, id("C").String() + " 500-599 used 0 seen 510 in one"},
		"nothing seen":           {func(counter) {}, ""},
		"as far as it was seen":  {func(c counter) { c.row("one", "150", id("A")) }, ""},
		"seen above the range":   {func(c counter) { c.row("one", "200", id("A")); remembers(c, id("A").String(), 900) }, ""},
		"seen in another series": {func(c counter) { c.row("one", "160", id("B")); remembers(c, id("B").String(), 160) }, ""},
		"the range is over":      {func(c counter) { c.granted(shop, id("A"), tillB, 300, 399, 0, "expired"); c.row("one", "300", id("A")) }, ""},
		"a number that was put right": {func(c counter) {
			c.row("one", "1600", id("A"))
			c.exec(`UPDATE sales SET fiscal_number = '160'`)
			c.follow()
			c.exec(`UPDATE sales SET fiscal_number = '140'`)
		}, ""},
		"another device's in its own range": {func(c counter) {
			c.granted(shop, id("C"), "caja 3", 500, 599, 0, "active")
			c.said("one", numbered(510, id("B")))
		}, ""},
		"of another store":                    {func(c counter) { c.rowIn(otherShop, "theirs", "160", id("A")); c.follow(otherShop) }, ""},
		"what does not end in digits says no": {func(c counter) { c.row("one", "160-A", id("A")) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			at := newCounter(t)
			at.granted(shop, id("A"), tillA, 100, 199, 150, "active")
			c.plant(at)
			at.follow()
			ranges, err := at.fiscal.Ranges(t.Context(), postgres.FiscalScope{Stores: []uuid.UUID{shop}}, true)
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for _, r := range ranges {
				if !r.Regressed {
					continue
				}
				in := "memory"
				if r.SeenIn != nil {
					in = map[string]string{id("sale one").String(): "one", id("sale two").String(): "two"}[r.SeenIn.String()]
				}
				lines = append(lines, fmt.Sprintf("%s %d-%d used %d seen %d in %s", r.Code, r.Start, r.End, r.UsedTo, r.Seen, in))
				if r.Left != r.End-r.Seen {
					t.Errorf("%d are left", r.Left)
				}
			}
			if got := strings.Join(lines, "; "); got != c.want {
				t.Errorf("found %q, want %q", got, c.want)
			}
			s := at.measured(false)
			if s.More.FiscalRegressionCount != int64(len(lines)) || strings.Count(details(s, "fiscal_regression"), "used up to") != len(lines) {
				t.Errorf("health counts %d and names %q", s.More.FiscalRegressionCount, details(s, "fiscal_regression"))
			}
		})
	}
}

// What two stores have in common is told at central alone, to each store's report.
func TestI10OnlyCentralIsToldOfNumbersThatTwoStoresShare(t *testing.T) {
	c := newCounter(t)
	c.row("one", "777", id("A"))
	c.rowIn(otherShop, "theirs", "0777", id("A")) // the first store's series
	c.row("two", "888", id("A"))
	c.event(otherShop, "SaleCreated", tillB, morning, map[string]any{"sale_id": id("sale three"), "fiscal_number": 888}) // its own series, of the same code
	c.granted(shop, id("A"), tillA, 100, 199, 199, "active")
	c.granted(otherShop, id("A"), tillB, 150, 249, 249, "active")
	c.granted(otherShop, id("their A"), tillB, 100, 199, 199, "active")
	c.follow(otherShop)
	c.want()
	if s := c.measured(false); s.More.FiscalDuplicateCount+s.More.FiscalRangeOverlapCount != 0 || strings.Contains(fmt.Sprint(s.Details), otherShop.String()) {
		t.Errorf("a store is told of another: %+v", s.Details)
	}
	for _, stores := range [][]uuid.UUID{{shop}, {otherShop}, {shop, otherShop}} {
		c.wantIn(postgres.FiscalScope{Stores: stores, Across: true}, "A/777: one theirs@other")
	}
	s := c.measured(true)
	if s.More.FiscalDuplicateCount != 1 || s.More.FiscalRangeOverlapCount != 1 {
		t.Errorf("%d duplicates, %d overlaps", s.More.FiscalDuplicateCount, s.More.FiscalRangeOverlapCount)
	}
	both := fmt.Sprintf("%s@%s", id("sale theirs"), otherShop)
	if got := details(s, "fiscal_duplicate"); !strings.Contains(got, id("sale one").String()) || !strings.Contains(got, both) {
		t.Errorf("central names %q", got)
	}
	want := fmt.Sprintf("A/150-199/%s/%s@%s", tillA, tillB, otherShop)
	if got := details(s, "fiscal_overlap"); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "of store "+otherShop.String()) {
		t.Errorf("central names %q, want %s first", got, want)
	}
	c.exec(`UPDATE sales SET voided_at = now() WHERE store_id = $1`, otherShop)
	c.wantIn(postgres.FiscalScope{Stores: []uuid.UUID{shop}, Across: true})
}

// A series that central does not know is the one whose range the number came from.
func TestASeriesThatIsNotKnownHereIsThatOfTheDevicesRange(t *testing.T) {
	c := newCounter(t)
	c.granted(shop, id("A"), tillA, 700, 799, 799, "active")
	c.granted(shop, id("B"), tillB, 700, 799, 799, "active")
	c.row("one", "777", id("A"))
	c.said("two", numbered(777, id("the till's own A")))
	c.event(shop, "SaleCreated", tillB, morning, map[string]any{"sale_id": id("sale three"), "fiscal_number": 777, "invoice_series_id": id("the till's own B")})
	c.event(shop, "SaleCreated", uuid.New(), morning, map[string]any{"sale_id": id("sale four"), "fiscal_number": 777, "invoice_series_id": id("the till's own C")})
	c.want("A/777: one two")
	c.granted(shop, id("B"), tillA, 700, 799, 799, "active") // no range says which it is
	c.row("theirs", "778", id("A"))
	c.said("four", numbered(778, id("the till's own A")))
	c.want("A/777: one two")
}
