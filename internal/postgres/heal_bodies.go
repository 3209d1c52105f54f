package postgres

import (
	"cmp"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/velox"
)

// How far from the time that a sale or a void names its movements are looked for. A
// projection gives them that very time, and the online API its own, a moment away. A
// time without a zone is read in the zone of the process that projects it.
const (
	bodyMargin  = int64(time.Hour / time.Millisecond)
	looseMargin = 15 * bodyMargin
)

// bodies reads what sales consist of. There is no index on the sale that a movement
// names, in its reference, or, of an online void, in its note: movements are found by
// their time, which is the sale's or the void's, or,
// where the online API made them, about when the event arrived. Where the row of a
// sale says when it was sold, that counts. OFFSET 0 holds the planner to that: left to
// itself it reads every movement of the store and looks at what sale it names.
func (r *factReader) bodies() {
	r.facts.Bodies = map[uuid.UUID]projection.Body{}
	sales := r.ids(projection.Bodies)
	if len(sales) == 0 {
		return
	}
	var (
		sale uuid.UUID
		item projection.Item
		m    projection.Movement
	)
	r.each("sale items", `SELECT sale_id, id, product_id, variant_id, qty::text, unit_price_bs::text, unit_price_usd::text,
			discount_bs::text, discount_usd::text
		FROM public.sale_items WHERE sale_id = ANY($1) ORDER BY id`,
		[]any{sales}, []any{&sale, &item.ID, &item.Product, &item.Variant, &item.Qty, &item.PriceBs, &item.PriceUSD, &item.DiscountBs, &item.DiscountUSD},
		func() {
			body := r.facts.Bodies[sale]
			body.Items = append(body.Items, item)
			r.facts.Bodies[sale] = body
		})
	from, to := r.windows(sales)
	names := make([]string, len(sales))
	for i, id := range sales {
		names[i] = id.String()
	}
	r.each("movements of sales", `
		SELECT n.sale::uuid, m.id, m.product_id, m.variant_id, m.warehouse_id, m.qty_delta::text,
			n.reversal, coalesce(m.from_escrow, false)
		FROM unnest($2::timestamptz[], $3::timestamptz[]) AS w (since, until)
		CROSS JOIN LATERAL (SELECT * FROM public.inventory_movements m WHERE m.store_id = $1 AND m.happened_at >= w.since AND m.happened_at <= w.until OFFSET 0) m
		CROSS JOIN LATERAL (SELECT lower(coalesce(m.ref ->> 'sale_id', substring(m.note FROM '^(?:Anulación|Devolución) venta ([0-9a-fA-F-]{36})'))) AS sale,
			coalesce(m.ref ->> 'reversal' = 'true', false) OR m.movement_type = 'adjust' AND coalesce(m.note ~ '^(Anulación|Devolución) venta ', false) AS reversal) n
		WHERE n.sale = ANY($4) AND (n.reversal OR m.movement_type IN ('sold', 'sale'))
		ORDER BY m.happened_at, m.id`,
		[]any{r.store, from, to, names}, []any{&sale, &m.ID, &m.Product, &m.Variant, &m.Warehouse, &m.Qty, &m.Reversal, &m.Escrow},
		func() {
			body := r.facts.Bodies[sale]
			body.Movements = append(body.Movements, m)
			r.facts.Bodies[sale] = body
		})
}

// windows are the stretches of time in which movements of the asked sales can be, in
// order and without overlap.
func (r *factReader) windows(sales []uuid.UUID) (from, to []pgtype.Timestamptz) {
	type stretch struct{ since, until int64 }
	var stretches []stretch
	around := func(at velox.Millis, margin int64) {
		if int64(at) >= firstInstant && int64(at) <= lastInstant { // at an infinity nothing happens
			stretches = append(stretches, stretch{int64(at) - margin, int64(at) + margin})
		}
	}
	events := make([]uuid.UUID, 0, len(r.asks))
	for _, a := range r.asks {
		if near := a.Near; near != nil {
			events = append(events, a.Event.ID)
			around(near.At, map[bool]int64{false: bodyMargin, true: looseMargin}[near.Loose])
		}
	}
	var at velox.Millis
	r.each("times of sales", `
		SELECT reconciled.ms(sold_at) FROM public.sales WHERE id = ANY($1)
		UNION SELECT reconciled.ms(voided_at) FROM public.sales WHERE id = ANY($1) AND voided_at IS NOT NULL
		UNION SELECT reconciled.ms(received_at) FROM public.events WHERE event_id = ANY($2)`,
		[]any{sales, events}, []any{&at}, func() { around(at, bodyMargin) })
	slices.SortFunc(stretches, func(a, b stretch) int { return cmp.Compare(a.since, b.since) })
	for i := 0; i < len(stretches); {
		s := stretches[i]
		for i++; i < len(stretches) && stretches[i].since <= s.until; i++ {
			s.until = max(s.until, stretches[i].until)
		}
		from, to = append(from, notBefore(s.since)), append(to, notAfter(s.until))
	}
	return from, to
}
