package postgres

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
)

// watch is a trigger of 00007_read_models.sql that must be there.
type watch struct{ table, trigger, function string }

// lookAtTriggers gives a fingerprint that changes when a trigger is made anew, or
// disabled and enabled again, and names those that are missing, disabled or others.
func lookAtTriggers(ctx context.Context, tx pgx.Tx, watched []watch) (fingerprint, wrong string, err error) {
	var tables, triggers, functions []string
	for _, w := range watched {
		tables, triggers, functions = append(tables, w.table), append(triggers, w.trigger), append(functions, w.function)
	}
	err = tx.QueryRow(ctx, `
		SELECT string_agg(format('%s %s %s', t.oid, t.xmin, (SELECT p.xmin FROM pg_catalog.pg_proc p WHERE p.oid = t.tgfoid)), ', ' ORDER BY want.n),
		       coalesce(string_agg(format('%s on %s', want.trigger, want.tab), ', ' ORDER BY want.n) FILTER (WHERE t.oid IS NULL), '')
		FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS want (tab, trigger, function, n)
		LEFT JOIN LATERAL ( -- OFFSET 0 keeps the plan to the index of trigger names
			SELECT t.xmin, t.* FROM pg_catalog.pg_trigger t
			WHERE t.tgrelid = to_regclass(format('public.%I', want.tab)) AND t.tgname = want.trigger::name OFFSET 0) t
		ON t.tgenabled IN ('O', 'A') AND t.tgfoid = to_regproc('reconciled.' || want.function)`, tables, triggers, functions).
		Scan(&fingerprint, &wrong)
	if err != nil {
		return "", "", fmt.Errorf("look at triggers of read models: %w", err)
	}
	return fingerprint, wrong, nil
}

// blameTriggers is evidence that changes of a store's read models may have gone past
// the triggers; once for each state that they are found in, while it is open.
func blameTriggers(ctx context.Context, tx pgx.Tx, store velox.StoreID, state, why string) error {
	found := sha256.Sum256([]byte(state))
	_, err := tx.Exec(ctx, `INSERT INTO reconciled.evidence (store_id, kind, found, detail) VALUES ($1, 'capture', $2, $3)
		ON CONFLICT DO NOTHING`, store, found[:], why)
	if err != nil {
		return fmt.Errorf("write evidence: %w", err)
	}
	return nil
}

// whyBroken tells what is wrong with triggers and what mends it.
func whyBroken(wrong string) string {
	return "triggers on the read models are missing, disabled or others: " + wrong +
		"; as reconciled_migrator, SELECT reconciled.watch_read_models() makes them anew"
}
