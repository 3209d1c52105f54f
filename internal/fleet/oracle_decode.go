package fleet

import (
	"encoding/json"
	"slices"

	"github.com/veloxpos/reconciled/internal/velox"
)

// required are the ids that an event cannot do without.
var required = map[velox.Type][]string{
	velox.ProductCreated: {"product_id"}, velox.ProductUpdated: {"product_id"}, velox.ProductDeactivated: {"product_id"},
	velox.PriceChanged: {"product_id"}, velox.RecipeIngredientsUpdated: {"product_id"},
	velox.CustomerCreated: {"customer_id"}, velox.CustomerUpdated: {"customer_id"},
	velox.CashSessionOpened: {"session_id"}, velox.CashSessionClosed: {"session_id"},
	velox.CashLedgerEntryCreated: {"entry_id"},
	velox.StockReceived:          {"movement_id", "product_id"}, velox.StockAdjusted: {"movement_id", "product_id"},
	velox.StockDeltaApplied:     {"movement_id", "product_id"},
	velox.StockQuotaGranted:     {"quota_id", "product_id", "device_id"},
	velox.StockQuotaTransferred: {"request_id", "product_id", "from_device_id", "to_device_id"},
	velox.StockQuotaReclaimed:   {"request_id", "product_id", "device_id"},
	velox.SaleCreated:           {"sale_id"}, velox.SaleVoided: {"sale_id"},
	velox.DebtCreated: {"debt_id", "customer_id"}, velox.DebtPaymentRecorded: {"payment_id", "debt_id"},
	velox.DebtPaymentAdded: {"payment_id", "debt_id"},
}

// optional are the ids that any event may leave out.
var optional = []string{"variant_id", "sale_id", "cash_session_id", "customer_id", "voided_by_user_id"}

// requesting are the types whose request_id is more than a remark.
var requesting = []velox.Type{velox.StockQuotaGranted, velox.CashLedgerEntryCreated}

// quantity is a member without which a stock event says nothing. A copy that last
// write wins has given another type's payload lacks it; as 0 it would take the
// true event's movement id with nothing in it.
var quantity = map[velox.Type]string{
	velox.StockReceived: "qty", velox.StockAdjusted: "qty_delta", velox.StockDeltaApplied: "qty_delta",
	velox.StockQuotaGranted: "qty_granted", velox.StockQuotaTransferred: "qty", velox.StockQuotaReclaimed: "qty_reclaimed",
}

func (f *folding) decode(e *velox.Event) {
	var content fields
	if err := json.Unmarshal(e.Said(), &content); err != nil || content == nil || !content.sound(e.Type) {
		f.Poison = append(f.Poison, e.ID)
		return
	}
	f.events[e.Type] = append(f.events[e.Type], said{e, content})
}

// sound tells whether an event of the type can mean anything with this content.
func (f fields) sound(typ velox.Type) bool {
	for _, name := range required[typ] {
		if f.id(name) == "" {
			return false
		}
	}
	for _, name := range optional {
		if !f.idIfAny(name) {
			return false
		}
	}
	if name, counts := quantity[typ]; counts && len(f[name]) == 0 {
		return false
	}
	switch typ {
	case velox.ProductUpdated, velox.CustomerUpdated:
		return f.soundPatch()
	case velox.RecipeIngredientsUpdated:
		return f.soundRecipe()
	case velox.SaleCreated:
		return f.soundSale()
	default:
		return !slices.Contains(requesting, typ) || f.idIfAny("request_id")
	}
}

func (f fields) idIfAny(name string) bool { return f.text(name) == "" || f.id(name) != "" }

// given tells whether a member is there and not null.
func (f fields) given(name string) bool { return len(f[name]) > 0 && string(f[name]) != "null" }

// soundPatch: a name and a type may be changed, but not taken away.
func (f fields) soundPatch() bool {
	patch := f.object("patch")
	if patch == nil {
		return false
	}
	for _, name := range []string{"name", "product_type"} {
		if _, present := patch[name]; present && !patch.truthy(name) {
			return false
		}
	}
	return true
}

func (f fields) soundRecipe() bool {
	lines := f.list("ingredients")
	for _, line := range lines {
		if line.id("ingredient_product_id") == "" {
			return false
		}
	}
	return lines != nil
}

func (f fields) soundSale() bool {
	items := f.list("items")
	for _, item := range items {
		if item.id("product_id") == "" || !item.idIfAny("variant_id") || item.quantity().Sign() <= 0 {
			return false
		}
	}
	return len(items) > 0
}

// quantity is how much a sale's line sells: of what is weighed, its weight.
func (f fields) quantity() *decimal {
	if weight, ok := f.maybe("weight_value"); ok && f.yes("is_weight_product") {
		return weight
	}
	return f.number("qty")
}
