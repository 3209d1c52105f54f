package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/internal/velox"
)

// branchID is another store in central's database.
var branchID = uuid.MustParse("5eed0000-0000-4000-8000-000000000002")

// office is a database with two stores, which sell in one series.
type office struct {
	*testing.T
	site           *postgrestest.Site
	store, central string // configurations
	series, till   uuid.UUID
	seller, client uuid.UUID
}

func newOffice(t *testing.T) office {
	t.Helper()
	site := postgrestest.New(t)
	o := office{t, site, "", "", uuid.New(), uuid.New(), uuid.New(), uuid.New()}
	url := site.Server.URL("reconciled_runtime", site.Name)
	o.store = file(t, storeConfig, url, "http://127.0.0.1:1", unused(t))
	o.central = file(t, centralConfig, url, unused(t))
	site.AddStore(t, shopID)
	site.AddStore(t, branchID)
	o.sql(`INSERT INTO invoice_series (id, store_id, series_code, name) VALUES ($1, $2, 'A', 'Facturas')`, o.series, shopID)
	o.sql(`INSERT INTO profiles (id, full_name) VALUES ($1, 'Ana')`, o.seller)
	o.sql(`INSERT INTO customers (id, store_id, name, document_id) VALUES ($1, $2, '=HYPERLINK("http://x")', 'V-1')`, o.client, shopID)
	return o
}

func (o office) sql(sql string, args ...any) {
	o.Helper()
	if _, err := o.site.Owner.Exec(o.Context(), sql, args...); err != nil {
		o.Fatal(err)
	}
}

// sells logs a sale, and projects it where rows are wanted.
func (o office) sells(store uuid.UUID, number any, row bool) (sale, event uuid.UUID) {
	o.Helper()
	sale, event = uuid.New(), uuid.New()
	body, err := json.Marshal(map[string]any{
		"sale_id": sale, "fiscal_number": number, "invoice_series_id": o.series, "invoice_number": "000777", "currency": "BS",
		"sold_at": "2026-11-23T08:00:00Z", "totals": map[string]any{"total_bs": "40.10", "total_usd": -1.5}, "payment": map[string]any{"method": "@SUM(1)"},
	})
	if err != nil {
		o.Fatal(err)
	}
	hash, err := velox.PayloadHash(body)
	if err != nil {
		o.Fatal(err)
	}
	o.sql(`INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, actor_user_id, payload, delta_payload, full_payload_hash)
		VALUES ($1, $2, $3, 1, 'SaleCreated', 1, '2026-11-23 08:00', $4, $5::text::jsonb, $5::text::jsonb, $6)`, event, store, o.till, o.seller, string(body), hash)
	if row {
		o.sql(`INSERT INTO sales (id, store_id, sold_at, currency, totals, payment, fiscal_number, invoice_series_id, invoice_number, customer_id, sold_by_user_id, exchange_rate)
			VALUES ($1, $2, '2026-11-23 08:00', 'BS', '{"total_bs": 40.10, "total_usd": 1.00}', '{"method": "CASH_BS"}', $3, $4, '000777', $5, $6, 36.123456)`,
			sale, store, fmt.Sprint(number), o.series, o.client, o.seller)
	}
	return sale, event
}

func (o office) fiscal(args ...string) ran {
	o.Helper()
	return cmd(o.T, append([]string{"--config", o.store, "fiscal"}, args...)...)
}

func TestFiscalDuplicatesAreListedUntilOneIsVoided(t *testing.T) {
	o := newOffice(t)
	one, _ := o.sells(shopID, "0777", true)
	o.sells(shopID, 778, true)
	o.sells(branchID, 778, true) // another store's
	o.fiscal("duplicates").want(t, exitOK, "no fiscal number is used twice")
	o.fiscal("duplicates", "-o", "json").want(t, exitOK, `"total": 0`)
	two, _ := o.sells(shopID, 777, false)
	o.fiscal("duplicates").want(t, exitDiffers, "777", "A", one.String(), two.String(), "40.10", "000777", o.till.String(), "1 fiscal numbers are used twice", "--export DIR")
	r := o.fiscal("duplicates", "-o", "json")
	var list duplicateList
	if err := json.Unmarshal([]byte(r.out), &list); err != nil || r.code != exitDiffers || list.Total != 1 || list.Store.UUID != shopID || len(list.Duplicates[0].Sales) != 2 {
		t.Fatalf("exit %d, %+v, %v: %s", r.code, list, err, r.err)
	}
	if strings.Contains(r.out, branchID.String()) {
		t.Error("a store is told of another")
	}
	o.fiscal("duplicates", "--store", branchID.String()).want(t, exitOK, "no fiscal number is used twice")
	o.fiscal("duplicates", "--all").want(t, exitConfig, "--all is central's", "serve.listen")
	o.fiscal("duplicates", "--format", "csv").want(t, exitTrouble, "--format goes with --export")

	central := func(args ...string) ran {
		return cmd(t, append([]string{"--config", o.central, "fiscal", "duplicates"}, args...)...)
	}
	central("--all").want(t, exitDiffers, "all stores: 2 fiscal numbers are used twice", "777", "778")
	central("--all", "--store", shopID.String()).want(t, exitTrouble, "exclude each other")
	central("--store", branchID.String()).want(t, exitOK, "no fiscal number is used twice")

	o.sql(`INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload)
		VALUES (gen_random_uuid(), $1, $2, 2, 'SaleVoided', 1, now(), jsonb_build_object('sale_id', $3::text))`, shopID, o.till, two.String())
	o.fiscal("duplicates").want(t, exitOK, "no fiscal number is used twice", "--resolved")

	// What closed the incident can be shown, and exported.
	o.fiscal("duplicates", "--resolved").want(t, exitOK, one.String(), two.String(), "yes", "1 fiscal numbers were used twice")
	dir := t.TempDir()
	o.fiscal("duplicates", "--resolved", "--export", dir, "-o", "json").want(t, exitOK, `"resolved": true`, "SaleVoided")
	files, err := filepath.Glob(filepath.Join(dir, "*.csv"))
	if err != nil || len(files) != 1 {
		t.Fatalf("exported %v, %v", files, err)
	}
	if first, _ := parts(t, files[0]); !bytes.HasPrefix(first, []byte("reconciled fiscal duplicates --resolved,")) {
		t.Errorf("the pack begins with %s", first)
	}
	central("--store", branchID.String(), "--resolved").want(t, exitOK, "no fiscal number was used twice")
}

// parts are a pack's first line and what follows it.
func parts(t *testing.T, path string) (first, rest []byte) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%s: mode %s, %v", path, info.Mode(), err)
	}
	first, rest, _ = bytes.Cut(text, []byte("\n"))
	return first, rest
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func TestTheEvidenceHasAllThereIsAndCanBeChecked(t *testing.T) {
	o := newOffice(t)
	one, first := o.sells(shopID, "0777", true)
	two, second := o.sells(shopID, 777, false)
	three, third := o.sells(shopID, 777, true)
	o.sql(`UPDATE sales SET voided_at = '2026-11-24 09:00', void_reason = 'repetida' WHERE id = $1`, three)
	o.sql(`UPDATE events SET full_payload_hash = repeat('0', 64), received_at = '2026-11-23 08:01' WHERE event_id = $1`, second)
	o.sql(`UPDATE events SET created_at = 'infinity' WHERE event_id = $1`, third)
	o.sql(`INSERT INTO fiscal_sequence_ranges (store_id, series_id, device_id, range_start, range_end, used_up_to, expires_at)
		VALUES ($1, $2, $3, 700, 799, 777, 'infinity')`, shopID, o.series, o.till.String())
	o.sql(`INSERT INTO fiscal_invoices (store_id, sale_id, invoice_number, fiscal_number, status, issuer_name, issuer_tax_id, total_bs) VALUES ($1, $2, '000777', '777', 'issued', 'Bodega', 'J-1', 40.10)`, shopID, one)

	dir := t.TempDir()
	o.fiscal("duplicates", "--export", filepath.Join(dir, "pack.txt")).want(t, exitTrouble, "--format says which")
	o.fiscal("duplicates", "--export", filepath.Join(dir, "nowhere", "pack.json")).want(t, exitTrouble, "export", "nowhere")
	o.fiscal("duplicates", "--export", dir).want(t, exitDiffers, "written: ", "SHA-256 of all that follows its first line")
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 2 || !strings.HasSuffix(names[0].Name(), ".csv") || !strings.HasSuffix(names[1].Name(), ".json") {
		t.Fatalf("files %v, %v", names, err)
	}

	path := filepath.Join(dir, names[1].Name())
	head, rest := parts(t, path)
	var pack struct {
		Header     evidencePack
		Duplicates []postgres.FiscalEvidence
	}
	if err := json.Unmarshal(slices.Concat(head, rest), &pack); err != nil {
		t.Fatal(err)
	}
	var installation uuid.UUID
	if err := o.site.DB.Pool.QueryRow(t.Context(), `SELECT id FROM reconciled.installation`).Scan(&installation); err != nil {
		t.Fatal(err)
	}
	h := pack.Header
	if h.SHA256 != sumOf(rest) || h.Installation != installation || h.Version == "" || h.Made.IsZero() || h.Numbers != 1 || h.Stores != "store "+shopID.String() {
		t.Errorf("header %+v, what follows has %s", h, sumOf(rest))
	}
	sales := map[uuid.UUID]postgres.SaleEvidence{}
	for _, s := range pack.Duplicates[0].Sales {
		sales[s.Sale.UUID] = s
	}
	for name, c := range map[string]struct {
		sale  uuid.UUID
		event uuid.UUID
		row   string
		hash  string
		void  string
	}{
		"projected":     {one, first, `"exchange_rate": 36.123456`, "intact", ""},
		"not projected": {two, second, "null", "corrupt", ""},
		"voided":        {three, third, `"void_reason": "repetida"`, "intact", "sales.voided_at 2026-11-24T09:00:00+00:00"},
	} {
		s := sales[c.sale]
		if len(s.Events) != 1 || s.Events[0].ID != c.event || s.Events[0].Verdict != c.hash || s.Events[0].Device != o.till || s.Events[0].Received == "" || len(s.Events[0].Computed) != 64 {
			t.Errorf("%s: events %+v", name, s.Events)
		}
		if !strings.Contains(strings.ReplaceAll(string(s.Row), `":`, `": `), c.row) && !strings.Contains(string(s.Row), c.row) {
			t.Errorf("%s: row %s", name, s.Row)
		}
		if got := strings.Join(s.Voids, ""); got != c.void || s.Voided != (c.void != "") || len(s.Ranges) != 1 {
			t.Errorf("%s: voids %q, ranges %s", name, got, s.Ranges)
		}
	}
	if s := sales[one]; len(s.Invoices) != 1 || !strings.Contains(string(s.Customer), "V-1") || !strings.Contains(string(s.Seller), "Ana") {
		t.Errorf("invoices %s, customer %s, seller %s", s.Invoices, s.Customer, s.Seller)
	}

	head, rest = parts(t, filepath.Join(dir, names[0].Name()))
	if !strings.Contains(string(head), sumOf(rest)) || !strings.Contains(string(head), installation.String()) {
		t.Errorf("header %s, what follows has %s", head, sumOf(rest))
	}
	lines, err := csv.NewReader(bytes.NewReader(rest)).ReadAll()
	if err != nil || len(lines) != 4 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	cell := func(sale uuid.UUID, column string) string {
		for _, line := range lines[1:] {
			if line[slices.Index(lines[0], "sale")] == sale.String() {
				return line[slices.Index(lines[0], column)]
			}
		}
		return "no line"
	}
	for _, c := range []struct {
		sale         uuid.UUID
		column, want string
	}{
		{one, "number", "777"},
		{one, "fiscal_number", "0777"},
		{one, "total_bs", "40.10"},
		{one, "customer", `'=HYPERLINK("http://x")`}, // no formula
		{one, "seller", "Ana"},
		{one, "projected", "yes"},
		{one, "hash_verdicts", "intact"},
		{two, "payment_method", "'@SUM(1)"},
		{two, "total_usd", "-1.5"}, // a number
		{two, "projected", "no"},
		{two, "events", "SaleCreated " + second.String()},
		{two, "events_received_at", "2026-11-23T08:01:00+00:00"},
		{two, "hash_verdicts", "corrupt"},
		{three, "voided", "yes"},
		{three, "events_created_at", "infinity"},
	} {
		if got := cell(c.sale, c.column); got != c.want {
			t.Errorf("%s: %q, want %q", c.column, got, c.want)
		}
	}
	if got := cell(one, "fiscal_invoices"); !strings.Contains(got, "issued, number 000777") {
		t.Errorf("invoices %q", got)
	}
	if got := cell(one, "ranges"); !strings.Contains(got, "700-799") {
		t.Errorf("ranges %q", got)
	}

	only := filepath.Join(dir, "one.csv")
	o.fiscal("duplicates", "--export", only, "-o", "json").want(t, exitDiffers, `"sha256": "`)
	if _, rest := parts(t, only); !bytes.HasPrefix(rest, []byte("number,series,")) {
		t.Errorf("%.80s", rest)
	}
}

func TestFiscalRangesAreListedWithWhatIsWrong(t *testing.T) {
	o := newOffice(t)
	o.fiscal("ranges").want(t, exitOK, "0 ranges, 0 went back")
	grant := func(store uuid.UUID, device string, start, end, used int, status string) {
		o.sql(`INSERT INTO fiscal_sequence_ranges (store_id, series_id, device_id, range_start, range_end, used_up_to, status, granted_at, expires_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, '2026-11-01', '2026-12-01')`, store, o.series, device, start, end, used, status)
	}
	grant(shopID, o.till.String(), 700, 799, 777, "active")
	grant(shopID, o.till.String(), 600, 699, 699, "expired")
	o.sells(shopID, 777, true)
	o.fiscal("ranges").want(t, exitOK, o.till.String(), "700-799", "1 ranges, 0 went back, 0 pairs overlap, 0 numbers outside")
	o.fiscal("ranges", "--past").want(t, exitOK, "600-699", "2 ranges")
	sale, _ := o.sells(shopID, 790, false)
	o.sells(shopID, 1000, false)
	grant(shopID, "caja 2", 750, 849, 0, "active")
	grant(branchID, "caja 3", 799, 899, 0, "active")
	o.fiscal("ranges").want(t, exitDiffers, "WENT BACK", "used up to 777, but 790 was seen, in sale "+sale.String(), "OVERLAP: series A, numbers 750 to 799", "OUTSIDE: series A, number 1000",
		"2 went back, 1 pairs overlap, 1 numbers outside", "stop selling")
	r := o.fiscal("ranges", "-o", "json")
	var list rangeList
	if err := json.Unmarshal([]byte(r.out), &list); err != nil || r.code != exitDiffers || list.Regressed != 2 || len(list.Overlaps) != 1 || list.OutsideTotal != 1 || len(list.Ranges) != 2 ||
		list.Ranges[0].Left != 9 || strings.Contains(r.out, branchID.String()) {
		t.Errorf("exit %d, %+v, %v: %s", r.code, list, err, r.err)
	}
	cmd(t, "--config", o.central, "fiscal", "ranges", "--all").want(t, exitDiffers, "all stores: 3 ranges", "3 pairs overlap", branchID.String())
}
