package postgres

import (
	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/velox"
)

func (r *factReader) escrow() {
	r.facts.Escrow = map[projection.Share]projection.Holding{}
	if len(r.asked[projection.Escrowed]) == 0 {
		return
	}
	var (
		share   projection.Share
		held    projection.Holding
		expires *velox.Millis
	)
	r.each("escrow", `SELECT device_id, product_id, variant_id, id, coalesce(qty_granted, 0)::text, reconciled.ms(expires_at)
		FROM public.stock_escrow WHERE store_id = $1 AND product_id = ANY($2)`,
		[]any{r.store, r.ids(projection.Escrowed)}, []any{&share.Device, &share.Product, &share.Variant, &held.ID, &held.Qty, &expires},
		func() {
			held.Expires = nil
			if expires != nil {
				at := *expires
				held.Expires = &at
			}
			r.facts.Escrow[share] = held
		})
}

// quotas reads what shares are made of: their events, as far as they are projected,
// and what sales took. The latter, which may be much, is only read for whom it matters.
func (r *factReader) quotas() {
	r.facts.Quotas, r.facts.Taken = map[uuid.UUID][]projection.Event{}, map[projection.Share][]projection.Taking{}
	products := idSet{}
	for _, a := range r.asks {
		for _, share := range a.Shares {
			products[share.Product] = true
		}
	}
	if len(products) == 0 {
		return
	}
	type change struct {
		event           projection.Event
		marker, product uuid.UUID
	}
	var all []change
	events, markers := []uuid.UUID{}, []uuid.UUID{}
	r.events("quotas", saying(eventColumns+`, asked.id`, "product_id", `(e.type IN ('StockQuotaGranted', 'StockQuotaTransferred', 'StockQuotaReclaimed')
			OR e.type = 'StockDeltaApplied' AND `+saidInSQL+` ->> 'from_escrow' IS NOT NULL)`),
		[]any{r.store, listed(products)}, func(e projection.Event, product uuid.UUID) {
			if intent, err := projection.Read(e); err == nil && len(intent.Asks().Shares) > 0 {
				marker := intent.Asks().Row.Values["id"].(uuid.UUID)
				all = append(all, change{e, marker, product})
				events, markers = append(events, e.ID), append(markers, marker)
			}
		})
	// Where the store has no warehouse the backend marks a quota by its outbox entry alone.
	var id uuid.UUID
	projected := idSet{}
	r.each("projected quotas", `SELECT id FROM public.inventory_movements WHERE id = ANY($1) UNION SELECT id FROM reconciled.applied WHERE id = ANY($2)
		UNION SELECT q.id FROM unnest($2::uuid[]) AS q (id) JOIN public.outbox_entries o ON o.event_id IN (q.id::text, upper(q.id::text))
			WHERE o.target = 'projection' AND o.status = 'processed' AND NOT EXISTS (SELECT FROM public.warehouses w WHERE w.store_id = $3 AND w.is_active)`,
		[]any{markers, events, r.store}, []any{&id}, func() { projected[id] = true })
	for _, c := range all {
		if projected[c.marker] || projected[c.event.ID] {
			r.facts.Quotas[c.product] = append(r.facts.Quotas[c.product], c.event)
		}
	}
	r.unfolded(products, markers)
	folded := idSet{}
	for _, a := range r.asks {
		for _, share := range a.Shares {
			if !r.exists(a.Row.Table, a.Row.Values["id"].(uuid.UUID)) || r.facts.Latest(a.Event, share) {
				folded[share.Product] = true
			}
		}
	}
	if len(folded) > 0 {
		r.taken(folded)
	}
}

// unfolded finds products of whose shares the log lacks an event: it was deleted, or
// nobody can read it.
func (r *factReader) unfolded(products idSet, markers []uuid.UUID) {
	r.facts.Unfolded = idSet{}
	var product uuid.UUID
	r.each("quotas without an event", `SELECT DISTINCT product_id FROM public.inventory_movements
		WHERE store_id = $1 AND product_id = ANY($2) AND movement_type IN ('transfer_in', 'transfer_out')
		  AND ref ?| '{quota_id,device_id,from}' AND id <> ALL($3)`,
		[]any{r.store, listed(products), markers}, []any{&product}, func() { r.facts.Unfolded[product] = true })
}

// taken reads what sales took from shares: their movements say how much, their events
// whose share it was.
func (r *factReader) taken(products idSet) {
	type took struct {
		product uuid.UUID
		variant uuid.NullUUID
		qty     string
	}
	bySale := map[uuid.UUID][]took{}
	var (
		sale uuid.UUID
		t    took
	)
	r.each("takings", `SELECT reconciled.try_uuid(ref ->> 'sale_id'), product_id, variant_id, qty_delta::text FROM public.inventory_movements
		WHERE store_id = $1 AND product_id = ANY($2) AND from_escrow AND movement_type = 'sold' AND reconciled.try_uuid(ref ->> 'sale_id') IS NOT NULL`,
		[]any{r.store, listed(products)}, []any{&sale, &t.product, &t.variant, &t.qty}, func() { bySale[sale] = append(bySale[sale], t) })
	if len(bySale) == 0 {
		return
	}
	sales := make([]uuid.UUID, 0, len(bySale))
	for id := range bySale {
		sales = append(sales, id)
	}
	// Of the sale's event no more is wanted than when, where and by whom it was made. Most
	// events are of its type: the index on it would be read to the end for each sale, so
	// the type is asked in a way that fits none.
	var by projection.Event
	r.each("sales that took", saying(`asked.id, e.event_id, e.device_id, e.seq, reconciled.ms(e.created_at)`, "sale_id", `e.type || '' = 'SaleCreated'`)+` ORDER BY 5`,
		[]any{r.store, sales}, []any{&sale, &by.ID, &by.Device, &by.Seq, &by.CreatedAt}, func() {
			for _, t := range bySale[sale] {
				share := projection.Share{Device: by.Device, Product: t.product, Variant: t.variant}
				r.facts.Taken[share] = append(r.facts.Taken[share], projection.Taking{Sale: by, Qty: t.qty})
			}
			delete(bySale, sale) // two events of one sale took once
		})
}
