package velox

// Type is an event's type name as it stands in events.type.
type Type string

// The 21 event types of a Velox POS.
const (
	ProductCreated           Type = "ProductCreated"
	ProductUpdated           Type = "ProductUpdated"
	ProductDeactivated       Type = "ProductDeactivated"
	PriceChanged             Type = "PriceChanged"
	RecipeIngredientsUpdated Type = "RecipeIngredientsUpdated"
	StockReceived            Type = "StockReceived"
	StockAdjusted            Type = "StockAdjusted"
	StockDeltaApplied        Type = "StockDeltaApplied"
	StockQuotaGranted        Type = "StockQuotaGranted"
	StockQuotaTransferred    Type = "StockQuotaTransferred"
	StockQuotaReclaimed      Type = "StockQuotaReclaimed"
	SaleCreated              Type = "SaleCreated"
	SaleVoided               Type = "SaleVoided"
	CashSessionOpened        Type = "CashSessionOpened"
	CashSessionClosed        Type = "CashSessionClosed"
	CashLedgerEntryCreated   Type = "CashLedgerEntryCreated"
	CustomerCreated          Type = "CustomerCreated"
	CustomerUpdated          Type = "CustomerUpdated"
	DebtCreated              Type = "DebtCreated"
	DebtPaymentRecorded      Type = "DebtPaymentRecorded"
	DebtPaymentAdded         Type = "DebtPaymentAdded"
)

// Types lists the 21 types, catalogue first.
func Types() []Type {
	return []Type{
		ProductCreated, ProductUpdated, ProductDeactivated, PriceChanged, RecipeIngredientsUpdated,
		StockReceived, StockAdjusted, StockDeltaApplied,
		StockQuotaGranted, StockQuotaTransferred, StockQuotaReclaimed,
		SaleCreated, SaleVoided,
		CashSessionOpened, CashSessionClosed, CashLedgerEntryCreated,
		CustomerCreated, CustomerUpdated,
		DebtCreated, DebtPaymentRecorded, DebtPaymentAdded,
	}
}

// Known reports whether t is one of the 21.
func (t Type) Known() bool {
	for _, known := range Types() {
		if t == known {
			return true
		}
	}
	return false
}
