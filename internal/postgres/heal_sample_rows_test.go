package postgres_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/healer/projection"
)

// logProjected writes the rows that the real backend made of the sample, its outbox
// among them.
func (h *healing) logProjected() {
	h.Helper()
	for _, table := range []string{
		"products", "customers", "cash_sessions", "sales", "sale_items", "inventory_movements", "debts", "debt_payments", "outbox_entries",
	} {
		lines(h, "projected.jsonl", func(line []byte) {
			var written struct {
				Table string
				Row   json.RawMessage
			}
			if err := json.Unmarshal(line, &written); err != nil {
				h.Fatal(err)
			}
			if written.Table == table {
				h.exec(fmt.Sprintf(`INSERT INTO %[1]s SELECT * FROM jsonb_populate_record(NULL::%[1]s, $1::jsonb)`, table), string(written.Row))
			}
		})
	}
}

func TestI5RowsOfTheRealBackendAreMendedOnlyWhereItErred(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.logSample()
	h.logProjected()
	h.enlist()
	got := map[string]string{}
	_, err := h.healer.Look(h.ctx, shop, false, func(g healer.Gap) {
		if g.Class == projection.Actionable {
			got[g.Event.String()] = g.Reason
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"783a6a63-07b3-4e5a-ac4e-77e5bffe910c": "rows are missing",       // overwritten, and taken for its winner
		"dfe31bbf-d41a-46b9-881b-23318d8703b5": "rows are missing",       // likewise
		"e1e8e098-91ac-46d9-856a-32202f2083a9": "the sale is not voided", // came before its sale
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("to be healed (-want +got)\n%s", diff)
	}
}
