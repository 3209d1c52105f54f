package projection

import (
	"slices"
	"strings"

	"github.com/google/uuid"
)

// void is SaleVoided (events.md 3.7). It gives back what was sold and takes the
// sale's credit debt out of the read model.
type void struct {
	sale     uuid.UUID
	set      map[string]any
	voidedAt string
	near     *Near
}

func readVoid(e Event, p payload) shape {
	v := void{sale: p.id("sale_id"), voidedAt: p.time("voided_at", e), near: p.near("voided_at", e)}
	v.set = map[string]any{
		"voided_at": v.voidedAt, "voided_by_user_id": p.optionalID("voided_by_user_id"), "void_reason": p.text("reason"),
	}
	return v
}

func (v void) asks(Event) Asks {
	return Asks{Refs: []Ref{{Sales, v.sale}, {Bodies, v.sale}, {DebtsOf, v.sale}}, Near: v.near}
}

func (v void) plan(e Event, f Facts) Outcome {
	if out := f.parent(e, Ref{Sales, v.sale}); out != nil {
		return *out
	}
	c := Changes{Update: &Update{Sales, v.sale, nil}}
	var reasons []string
	if !f.Voided[v.sale] {
		c.Update.Set = v.set
		reasons = append(reasons, "the sale is not voided")
		c.Exceptions = []string{"journal entries of the sale stay", "lots and serials are not given back"}
		if f.Invoiced[v.sale] {
			c.Exceptions = append(c.Exceptions, "its fiscal invoice is issued")
		}
	}
	if _, has := f.DebtOf[v.sale]; has || !f.Voided[v.sale] {
		c.DebtOf = some(v.sale)
		if has && f.Voided[v.sale] {
			reasons = append(reasons, "its debt is still there")
		}
	}
	if out := v.giveBack(e, f, &c); out != nil {
		return *out
	}
	if len(c.Dependents)+len(c.Also) > 0 && f.Voided[v.sale] {
		reasons = append(reasons, "reversals are missing or differ")
	}
	if len(reasons) == 0 {
		return Outcome{Class: Done}
	}
	return mend(strings.Join(reasons, "; "), c)
}

// giveBack adds the reversals that the ledger does not have.
func (v void) giveBack(e Event, f Facts, c *Changes) *Outcome {
	body := f.Bodies[v.sale]
	if e.Online && f.Voided[v.sale] && slices.ContainsFunc(body.Movements, func(m Movement) bool { return m.Reversal }) {
		return nil // the online void knows how it gave back
	}
	items := slices.DeleteFunc(slices.Clone(body.Items), func(i Item) bool { return !positive(i.Qty) })
	missing, out := pair(items, body.Movements, true, v.sale, c)
	if out != nil {
		return out
	}
	for _, i := range missing {
		item := items[i]
		warehouse := soldFrom(body.Movements, item)
		c.Dependents = append(c.Dependents, saleRow(e, derive(item.ID, "reversal", 0), "adjust", item, warehouse, v.voidedAt,
			"Anulación venta "+v.sale.String(), map[string]any{"sale_id": v.sale, "reversal": true}))
		c.Stock = append(c.Stock, StockKey{warehouse, item.Product, item.Variant})
	}
	return nil
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
