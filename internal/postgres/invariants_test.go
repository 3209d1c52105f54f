package postgres_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/internal/velox"
)

// refused wants a statement of the runtime role to fail with a SQLSTATE.
func (h *healing) refused(code, sql string, args ...any) {
	h.Helper()
	_, err := h.site.DB.Pool.Exec(h.ctx, sql, args...)
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != code {
		h.Errorf("%s: %v, want SQLSTATE %s", sql, err, code)
	}
}

// denied is insufficient_privilege.
const denied = "42501"

func TestI1TheRuntimeRoleCannotRemoveOrChangeWhatWasAcknowledged(t *testing.T) {
	h := newHealing(t, healer.Options{})
	for _, table := range []string{
		"events", "sales", "sale_items", "debts", "debt_payments", "inventory_movements", "warehouse_stock", "products",
		"customers", "cash_sessions", "outbox_entries", "conflict_audit_log", "stores",
	} {
		h.refused(denied, `DELETE FROM public.`+table)
		h.refused(denied, `TRUNCATE public.`+table)
	}
	for _, column := range []string{"payload", "delta_payload", "full_payload_hash", "created_at", "seq", "type"} {
		h.refused(denied, `UPDATE public.events SET `+column+` = `+column)
	}
	for _, table := range []string{"audit", "heal_log", "deletion", "removed_row"} {
		h.refused(denied, `DELETE FROM reconciled.`+table)
		h.refused(denied, `UPDATE reconciled.`+table+` SET store_id = store_id`)
	}
	h.refused(denied, `CREATE TABLE public.mine (id int)`)
	h.refused(denied, `ALTER TABLE public.events DISABLE TRIGGER ALL`)
	h.refused(denied, `INSERT INTO reconciled.removed_row (store_id, table_name, row_id, row, event_id, epoch) VALUES ($1, 'debts', $1, '{}', $1, 1)`, shop)
}

// creditSale is a sale on credit, whose debt a void removes.
func creditSale(h *healing) (sale, void uuid.UUID) {
	h.Helper()
	sale = id("credit sale")
	h.log(
		event("bread", velox.ProductCreated, 0, map[string]any{"product_id": id("bread"), "name": "Pan"}),
		event("maria", velox.CustomerCreated, 1, map[string]any{"customer_id": id("maria"), "name": "Maria"}),
		event("sale", velox.SaleCreated, 2, map[string]any{
			"sale_id": sale, "sold_at": morning.UnixMilli(), "currency": "USD", "payment": map[string]any{"method": "FIAO"},
			"customer_id": id("maria"), "totals": map[string]any{"total_usd": 3},
			"items": []any{map[string]any{"product_id": id("bread"), "qty": 3, "unit_price_usd": 1}},
		}),
	)
	h.heal()
	h.expect("1", `SELECT count(*) FROM debts WHERE sale_id = $1`, sale)
	h.log(event("void", velox.SaleVoided, 9, map[string]any{"sale_id": sale, "voided_at": morning.UnixMilli(), "reason": "error"}))
	return sale, id("event void")
}

func TestI1OnlyAVoidRemovesADebtAndItsRowsAreKept(t *testing.T) {
	h := newHealing(t, healer.Options{})
	sale, void := creditSale(h)
	const remove = `SELECT reconciled.remove_voided_debt($1, $2, $3, $4, $5)`
	h.refused("RC001", remove, shop, sale, void, h.grant.Epoch-1, h.grant.Token) // a stale epoch
	h.refused("RC001", remove, shop, sale, void, h.grant.Epoch, "another token")
	h.refused("RC002", remove, shop, sale, id("event sale"), h.grant.Epoch, h.grant.Token)   // not a void
	h.refused("RC002", remove, shop, id("another sale"), void, h.grant.Epoch, h.grant.Token) // not its void
	h.refused("RC003", remove, shop, sale, void, h.grant.Epoch, h.grant.Token)               // the sale stands yet
	h.refused("RC001", remove, id("other store"), sale, void, h.grant.Epoch, h.grant.Token)  // not its store
	h.expect("1", `SELECT count(*) FROM debts WHERE sale_id = $1`, sale)

	h.exec(`INSERT INTO debt_payments (id, store_id, debt_id, paid_at, amount_usd, method)
		SELECT $2, store_id, id, now(), 1, 'CASH_USD' FROM debts WHERE sale_id = $1`, sale, id("payment"))
	h.heal()
	h.expect("0", `SELECT count(*) FROM debts WHERE sale_id = $1`, sale)
	h.expect("0", `SELECT count(*) FROM debt_payments`)
	var kept string
	err := h.site.DB.Pool.QueryRow(h.ctx, `SELECT string_agg(table_name || ' ' || (row ->> 'amount_usd') || ' ' || event_id, ', ' ORDER BY table_name)
		FROM reconciled.removed_row`).Scan(&kept)
	if want := "debt_payments 1.00 " + void.String() + ", debts 3.00 " + void.String(); err != nil || kept != want {
		t.Errorf("kept %q (%v), want %q", kept, err, want)
	}
}

func TestI1AFilteredReadIsAnErrorNotAGap(t *testing.T) {
	h := newHealing(t, healer.Options{})
	t.Cleanup(func() {
		if _, err := h.owner.Exec(context.WithoutCancel(h.ctx), `ALTER ROLE reconciled_runtime BYPASSRLS`); err != nil {
			t.Error(err)
		}
	})
	const read = `SELECT count(*) FROM sale_items`
	if _, err := h.site.DB.Pool.Exec(h.ctx, read); err != nil {
		t.Fatal(err)
	}
	h.exec(`ALTER ROLE reconciled_runtime NOBYPASSRLS`)
	h.refused(denied, read)
}

func TestI11HealingNeitherMakesNorChangesAFiscalNumber(t *testing.T) {
	h := newHealing(t, healer.Options{})
	h.exec(`INSERT INTO sale_sequences (store_id, current_number) VALUES ($1, 41)`, shop)
	h.exec(`INSERT INTO fiscal_sequence_ranges (store_id, series_id, device_id, range_start, range_end, used_up_to, expires_at)
		VALUES ($1, $2, 'till', 1, 1000, 76, now() + interval '1 day')`, shop, series)
	sale := func(name string, minute int, more map[string]any) said {
		body := map[string]any{
			"sale_id": id(name), "sold_at": morning.UnixMilli(), "payment": map[string]any{"method": "CASH_BS"}, "totals": map[string]any{},
			"generate_fiscal_invoice": true, "items": []any{map[string]any{"product_id": id("bread"), "qty": 1}},
		}
		for key, value := range more {
			body[key] = value
		}
		return event(name, velox.SaleCreated, minute, body)
	}
	h.log(
		event("bread", velox.ProductCreated, 0, map[string]any{"product_id": id("bread"), "name": "Pan"}),
		sale("plain", 1, nil),
		sale("numbered", 2, map[string]any{"fiscal_number": 777, "invoice_series_id": series, "invoice_number": "000777"}),
		event("void", velox.SaleVoided, 3, map[string]any{"sale_id": id("numbered"), "voided_at": morning.UnixMilli()}),
	)
	if report := h.heal(); report.Healed != 4 {
		t.Fatalf("%+v, want all four healed", report)
	}
	h.expect("", `SELECT concat(fiscal_number, invoice_number, invoice_full_number, sale_number, invoice_series_id) FROM sales WHERE id = $1`, id("plain"))
	h.expect("777 000777", `SELECT concat_ws(' ', fiscal_number, invoice_number) FROM sales WHERE id = $1`, id("numbered"))
	h.expect("0", `SELECT current_number FROM invoice_series WHERE id = $1`, series)
	h.expect("41", `SELECT current_number FROM sale_sequences`)
	h.expect("76", `SELECT used_up_to FROM fiscal_sequence_ranges`)
	h.expect("0", `SELECT count(*) FROM fiscal_invoices`)
	for _, table := range []string{"fiscal_invoices", "fiscal_sequence_ranges", "invoice_series"} {
		h.refused(denied, `UPDATE `+table+` SET store_id = store_id`)
		h.refused(denied, `INSERT INTO `+table+` SELECT * FROM `+table)
	}
}
