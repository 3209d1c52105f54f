package fleet

import "slices"

// Deviation is one way in which the real backend is known to be wrong.
type Deviation string

// What the stand-in can get wrong, as the real backend does.
const (
	DebtsOfVoidedSales Deviation = "D3"  // a debt is made for a sale that was voided
	StockMisbooked     Deviation = "D6"  // totals: sales twice, no row for a first receipt, never below 0
	PayloadNotSaid     Deviation = "D8"  // payload is projected instead of what was said
	VariantLost        Deviation = "D10" // StockDeltaApplied has no variant
	PaymentsByOwnID    Deviation = "D12" // a payment finds only a debt of that very id
	GuardByRowTime     Deviation = "D14" // what is older than the row's last write changes no product and closes no session
	DiscountsZero      Deviation = "D15" // sales.totals has no discounts
	ServerMadeUnheeded Deviation = "D21" // quotas and cash entries of the own online API leave no rows
	PlaceholdersStay   Deviation = "D28" // a customer that a sale made up stays as it is
	CustomersShortened Deviation = "D29" // no document, e-mail and limit
	OtherPriceZero     Deviation = "D30" // a price in one currency zeroes the other
	SessionRequired    Deviation = "D36" // a cash entry without a session fails
	QuotasShortened    Deviation = "D38" // a till holds one variant of a product; without an expiry it sells none of it
)

var deviations = []Deviation{
	DebtsOfVoidedSales, StockMisbooked, PayloadNotSaid, VariantLost, PaymentsByOwnID, GuardByRowTime, DiscountsZero,
	ServerMadeUnheeded, PlaceholdersStay, CustomersShortened, OtherPriceZero, SessionRequired, QuotasShortened,
}

// BackendOptions of a Backend. The zero value is right in everything.
type BackendOptions struct {
	AsShipped bool        // wrong in every way there is
	Wrong     []Deviation // wrong in these
}

func (o BackendOptions) wrong(d Deviation) bool { return o.AsShipped || slices.Contains(o.Wrong, d) }
