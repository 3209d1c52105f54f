package postgres

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/velox"
)

// column is one that events bear. Its type is without a length: what is too long is
// then a difference, and not an error of the whole batch.
type column struct {
	name, kind string
	// refers to a table that may have lost the row: the POS sets the column to NULL
	// then, which is no difference.
	refers string
	grows  bool // only a value below what the event says is a difference
}

// comparable lists, by table, the columns that an event may say.
var comparable = map[projection.Table][]column{
	projection.Products: {
		{name: "name", kind: "text"},
		{name: "category", kind: "text"},
		{name: "sku", kind: "text"},
		{name: "barcode", kind: "text"},
		{name: "price_bs", kind: "numeric"},
		{name: "price_usd", kind: "numeric"},
		{name: "cost_bs", kind: "numeric"},
		{name: "cost_usd", kind: "numeric"},
		{name: "low_stock_threshold", kind: "numeric"},
		{name: "profit_margin", kind: "numeric"},
		{name: "is_active", kind: "boolean"},
		{name: "is_recipe", kind: "boolean"},
		{name: "is_visible_public", kind: "boolean"},
		{name: "product_type", kind: "text"},
		{name: "description", kind: "text"},
		{name: "image_url", kind: "text"},
		{name: "public_name", kind: "text"},
		{name: "public_description", kind: "text"},
		{name: "public_image_url", kind: "text"},
		{name: "public_category", kind: "text"},
	},
	projection.Customers: {
		{name: "name", kind: "text"},
		{name: "phone", kind: "text"},
		{name: "note", kind: "text"},
		{name: "document_id", kind: "text"},
		{name: "email", kind: "text"},
		{name: "credit_limit", kind: "numeric"},
		{name: "updated_at", kind: "timestamptz", grows: true},
	},
	projection.Sessions: {
		{name: "opened_at", kind: "timestamptz"}, {name: "opening_amount_bs", kind: "numeric"}, {name: "opening_amount_usd", kind: "numeric"},
	},
	projection.Ledger: {
		{name: "entry_type", kind: "text"},
		{name: "amount_bs", kind: "numeric"},
		{name: "amount_usd", kind: "numeric"},
		{name: "currency", kind: "text"},
		{name: "cash_session_id", kind: "uuid"},
		{name: "sold_at", kind: "timestamptz"},
	},
	projection.Movements: {
		{name: "product_id", kind: "uuid"}, {name: "variant_id", kind: "uuid", refers: "product_variants"}, {name: "qty_delta", kind: "numeric"},
	},
	projection.Sales: {
		{name: "cash_session_id", kind: "uuid", refers: "cash_sessions"},
		{name: "sold_at", kind: "timestamptz"},
		{name: "exchange_rate", kind: "numeric"},
		{name: "currency", kind: "text"},
		{name: "totals", kind: "jsonb"},
		{name: "payment", kind: "jsonb"},
		{name: "customer_id", kind: "uuid"},
		{name: "note", kind: "text"},
		{name: "sold_by_user_id", kind: "uuid", refers: "profiles"},
		{name: "fiscal_number", kind: "text"},
	},
	projection.Debts: {
		{name: "customer_id", kind: "uuid"}, {name: "amount_bs", kind: "numeric"}, {name: "amount_usd", kind: "numeric"},
	},
	projection.DebtPayments: {
		{name: "paid_at", kind: "timestamptz"},
		{name: "method", kind: "text"},
		{name: "note", kind: "text"},
		{name: "amount_bs", kind: "numeric"},
		{name: "amount_usd", kind: "numeric"},
	},
}

// differences holds the rows that are there against what their events say.
func (r *factReader) differences() {
	r.facts.Differs = map[uuid.UUID]projection.Difference{}
	type group struct {
		table  projection.Table
		said   string // columns
		rows   []map[string]any
		events []uuid.UUID
	}
	groups := map[string]*group{}
	for _, a := range r.asks {
		if a.Row == nil || !r.exists(a.Row.Table, a.Row.Values["id"].(uuid.UUID)) {
			continue
		}
		said := strings.Join(slices.Sorted(maps.Keys(a.Row.Values)), " ")
		key := string(a.Row.Table) + " " + said
		if groups[key] == nil {
			groups[key] = &group{table: a.Row.Table, said: " " + said + " "}
		}
		g := groups[key]
		g.rows, g.events = append(g.rows, a.Row.Values), append(g.events, a.Event.ID)
	}
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		g := groups[key]
		var types, differs []string
		for _, c := range comparable[g.table] {
			if !strings.Contains(g.said, " "+c.name+" ") {
				continue
			}
			types = append(types, c.name+" "+c.kind)
			lost := ""
			if c.refers != "" {
				lost = fmt.Sprintf(` AND (t.%[1]s IS NOT NULL OR EXISTS (SELECT FROM public.%[2]s parent WHERE parent.id = n.%[1]s))`, c.name, c.refers)
			}
			is := "IS DISTINCT FROM"
			if c.grows {
				is = "<"
			}
			differs = append(differs, fmt.Sprintf(`CASE WHEN t.%[1]s %[3]s n.%[1]s%[2]s THEN '%[1]s' END`, c.name, lost, is))
		}
		if len(types) == 0 {
			continue // an event that says nothing of its row
		}
		text, err := json.Marshal(g.rows)
		if err != nil {
			r.err, r.failed = err, string(g.table)
			return
		}
		var (
			place   int64
			columns []string
			before  []byte
		)
		r.each("differences of "+string(g.table), fmt.Sprintf(`
			SELECT n.place, d.columns, to_jsonb(t)::text
			FROM ROWS FROM (jsonb_to_recordset($1::jsonb) AS (id uuid, %s)) WITH ORDINALITY AS n (id, %s, place)
			JOIN public.%s t ON t.id = n.id AND t.store_id = $2
			CROSS JOIN LATERAL (SELECT array_remove(ARRAY[%s], NULL) AS columns) d
			WHERE cardinality(d.columns) > 0`,
			strings.Join(types, ", "), names(types), g.table, strings.Join(differs, ", ")),
			[]any{string(text), r.store}, []any{&place, &columns, &before},
			func() {
				d := projection.Difference{Columns: slices.Clone(columns)}
				if err := json.Unmarshal(before, &d.Before); err == nil {
					r.facts.Differs[g.events[place-1]] = d
				}
			})
	}
}

// names are the first words of a list.
func names(columns []string) string {
	words := make([]string, len(columns))
	for i, c := range columns {
		words[i], _, _ = strings.Cut(c, " ")
	}
	return strings.Join(words, ", ")
}

// bringing says by which member of which events a row of a table comes.
var bringing = map[projection.Table]struct {
	member string
	types  []velox.Type
}{
	projection.Sessions:     {"session_id", []velox.Type{velox.CashSessionOpened}},
	projection.Ledger:       {"entry_id", []velox.Type{velox.CashLedgerEntryCreated}},
	projection.Movements:    {"movement_id", []velox.Type{velox.StockReceived, velox.StockAdjusted, velox.StockDeltaApplied}},
	projection.Sales:        {"sale_id", []velox.Type{velox.SaleCreated}},
	projection.Debts:        {"debt_id", []velox.Type{velox.DebtCreated}},
	projection.DebtPayments: {"payment_id", []velox.Type{velox.DebtPaymentRecorded, velox.DebtPaymentAdded}},
}

// claimants finds the events that bring rows which are to be changed. Until the row
// is locked that is known only of rows that differ.
func (r *factReader) claimants() {
	if r.facts.Claimants == nil {
		r.facts.Claimants = map[projection.Ref][]projection.Event{}
	}
	asked := map[projection.Table]idSet{}
	for _, a := range r.asks {
		if a.Row == nil || bringing[a.Row.Table].member == "" {
			continue
		}
		if _, differs := r.facts.Differs[a.Event.ID]; !differs && !r.locked {
			continue
		}
		if asked[a.Row.Table] == nil {
			asked[a.Row.Table] = idSet{}
		}
		asked[a.Row.Table][a.Row.Values["id"].(uuid.UUID)] = true
	}
	for _, table := range slices.Sorted(maps.Keys(asked)) {
		by := bringing[table]
		r.events("claimants of "+string(table), saying(eventColumns+`, asked.id`, by.member, `e.type = ANY($3)`),
			[]any{r.store, listed(asked[table]), by.types}, func(e projection.Event, id uuid.UUID) {
				ref := projection.Ref{Table: table, ID: id}
				r.facts.Claimants[ref] = append(r.facts.Claimants[ref], e)
			})
	}
}
