package projection

import "github.com/google/uuid"

// movement is a stock event (events.md 3.5): one row of the ledger, and the
// total that follows from it.
type movement struct {
	row       Row // without its warehouse
	product   uuid.UUID
	variant   uuid.NullUUID
	warehouse uuid.NullUUID // as the event names it
	escrow    bool
}

func readReceipt(e Event, p payload) shape {
	m := readMovement(e, p, "received", "qty")
	m.row.Values["unit_cost_bs"] = p.number("unit_cost_bs", money)
	m.row.Values["unit_cost_usd"] = p.number("unit_cost_usd", money)
	m.row.Values["note"] = p.text("note")
	m.row.Values["ref"] = p.json("ref")
	return m
}

func readAdjustment(e Event, p payload) shape {
	m := readMovement(e, p, "adjust", "qty_delta")
	m.row.Values["note"] = p.text("note")
	return m
}

func readDelta(e Event, p payload) shape {
	m := readMovement(e, p, "adjust", "qty_delta")
	m.escrow = p.truthy("from_escrow")
	m.row.Values["from_escrow"] = m.escrow
	m.row.Values["unit_cost_bs"] = p.number("unit_cost_bs", money)
	m.row.Values["unit_cost_usd"] = p.number("unit_cost_usd", money)
	m.row.Values["note"] = p.textOr("reason", "Stock Delta Applied")
	ref := p.json("ref")
	if ref == nil {
		ref = map[string]any{"request_id": p.json("request_id"), "reason": p.json("reason")}
	}
	m.row.Values["ref"] = ref
	return m
}

func readMovement(e Event, p payload, kind, qty string) movement {
	id := p.id("movement_id")
	m := movement{product: p.id("product_id"), variant: p.optionalID("variant_id"), warehouse: p.looseID("warehouse_id")}
	m.row = ledgerRow(e, id, kind, m.product, m.variant, p.created(e))
	if p.absent(qty) {
		p.fail(qty, "is not a number")
	}
	m.row.Values["qty_delta"] = p.number(qty, quantity)
	return m
}

func (m movement) asks(e Event) Asks {
	refs := []Ref{m.row.ref(), {Products, m.product}}
	if m.variant.Valid {
		refs = append(refs, Ref{Variants, m.variant.UUID})
	}
	if m.escrow {
		refs = append(refs, Ref{Escrowed, m.product})
	}
	return Asks{Refs: refs, Row: m.row.only("product_id", "variant_id", "qty_delta"), Shares: sharesOf(m.changes(e))}
}

// changes are what the movement does to its maker's share, if it is one out of it.
func (m movement) changes(e Event) []change {
	if !m.escrow {
		return nil
	}
	return []change{{by: e, marker: m.row.ref().ID, share: Share{e.Device, m.product, m.variant}, qty: m.row.Values["qty_delta"].(string)}}
}

func (m movement) plan(e Event, f Facts) Outcome {
	mine, refusal := f.owned(e, m.row.ref())
	switch {
	case refusal != nil:
		return *refusal
	case mine:
		out := m.standing(e, f)
		if out.Class == Done {
			out = f.mendShares(e, m.row, m.changes(e))
		}
		return out
	}
	if out := first(f.parent(e, Ref{Products, m.product}), f.variant(e, m.variant)); out != nil {
		return *out
	}
	warehouse := f.warehouse(m.warehouse)
	row := Row{m.row.Table, m.row.beyond()}
	row.Values["warehouse_id"] = warehouse
	if !m.escrow {
		return write(Changes{Insert: &row, Stock: []StockKey{{warehouse, m.product, m.variant}}})
	}
	c := Changes{Insert: &row}
	share := Share{e.Device, m.product, m.variant}
	if held, has := f.Escrow[share]; has {
		c.Escrow = []Grant{{Share: share, Row: held.ID, Was: held.Qty, Qty: f.share(e, share).qty}}
	} else {
		c.Shares = []Share{share}
	}
	return write(c)
}

// standing mends a movement that is there; the totals that it was counted in, and is
// to be counted in, follow.
func (m movement) standing(e Event, f Facts) Outcome {
	out := f.standing(e, m.row)
	if out.Class != Actionable {
		return out
	}
	if missing := first(f.parent(e, Ref{Products, m.product}), f.variant(e, m.variant)); missing != nil {
		return *missing
	}
	before := f.Differs[e.ID].Before
	loose := func(column string) uuid.NullUUID {
		if absent(before[column]) {
			return uuid.NullUUID{}
		}
		id, ok := identifier(unquote(before[column]))
		return uuid.NullUUID{UUID: id, Valid: ok}
	}
	warehouse := loose("warehouse_id")
	out.Changes.Stock = []StockKey{
		{warehouse, m.product, m.variant},
		{warehouse, loose("product_id").UUID, loose("variant_id")},
	}
	return out
}

// ledgerRow is a movement without quantity and warehouse.
func ledgerRow(e Event, id uuid.UUID, kind string, product uuid.UUID, variant uuid.NullUUID, at string) Row {
	return Row{Movements, map[string]any{
		"id": id, "store_id": e.Store, "product_id": product, "variant_id": variant, "movement_type": kind,
		"unit_cost_bs": "0", "unit_cost_usd": "0", "note": nil, "ref": nil, "happened_at": at, "from_escrow": false,
	}}
}

// saleRow is a movement that names a sale: type sold, or adjust for a reversal.
func saleRow(e Event, id uuid.UUID, kind string, line Item, warehouse uuid.NullUUID, at, note string, ref map[string]any) Row {
	row := ledgerRow(e, id, kind, line.Product, line.Variant, at)
	ref["warehouse_id"] = warehouse
	row.Values["qty_delta"] = line.Qty
	row.Values["warehouse_id"] = warehouse
	row.Values["note"] = note
	row.Values["ref"] = ref
	return row
}

// variant answers for a variant that must exist, if one is named.
func (f Facts) variant(e Event, id uuid.NullUUID) *Outcome {
	if !id.Valid {
		return nil
	}
	return f.reference(e, Ref{Variants, id.UUID})
}
