package projection

import (
	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

// void is SaleVoided (events.md 3.7). It gives back what was sold and takes the
// sale's credit debt out of the read model.
type void struct {
	sale     uuid.UUID
	set      map[string]any
	voidedAt string
}

func readVoid(e *velox.Event, p payload) shape {
	v := void{sale: p.id("sale_id"), voidedAt: p.time("voided_at", e)}
	v.set = map[string]any{
		"voided_at": v.voidedAt, "voided_by_user_id": p.optionalID("voided_by_user_id"), "void_reason": p.text("reason"),
	}
	return v
}

func (v void) refs() []Ref { return []Ref{{Sales, v.sale}, {Bodies, v.sale}} }

func (v void) plan(e *velox.Event, f Facts) Outcome {
	if out := f.parent(e, Ref{Sales, v.sale}); out != nil {
		return *out
	}
	if f.Voided[v.sale] {
		return Outcome{Class: Done}
	}
	c := Changes{Update: &Update{Sales, v.sale, v.set}, DebtOf: some(v.sale)}
	body := f.Bodies[v.sale]
	for _, item := range body.Items {
		if !positive(item.Qty) || moved(body.Movements, item, true) {
			continue // nothing was sold, or it was given back before
		}
		warehouse := soldFrom(body.Movements, item)
		c.Dependents = append(c.Dependents, saleRow(e, derive(item.ID, "reversal", 0), "adjust", item, warehouse, v.voidedAt,
			"Anulación venta "+v.sale.String(), map[string]any{"sale_id": v.sale, "reversal": true}))
		c.Stock = append(c.Stock, StockKey{warehouse, item.Product, item.Variant})
	}
	return write(c)
}

// soldFrom is the warehouse of the first movement that sold the item.
func soldFrom(movements []Movement, item Item) uuid.NullUUID {
	for _, m := range movements {
		if !m.Reversal && m.Product == item.Product && m.Variant == item.Variant {
			return m.Warehouse
		}
	}
	return uuid.NullUUID{}
}
