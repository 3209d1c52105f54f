package postgres_test

import (
	"testing"

	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
)

func TestTheAuditIsAppendedTo(t *testing.T) {
	site := postgrestest.New(t)
	if err := postgres.NewAudit(site.DB).Write(t.Context(), postgres.AuditEntry{Actor: "ana", Action: "breaker reset", Target: "breaker", Outcome: "reset"}); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{`UPDATE reconciled.audit SET actor = 'luis'`, `DELETE FROM reconciled.audit`} {
		if _, err := site.DB.Pool.Exec(t.Context(), sql); err == nil {
			t.Errorf("%s: the runtime role may", sql)
		}
	}
	var got string
	if err := site.DB.Pool.QueryRow(t.Context(), `SELECT concat_ws(' ', actor, action, store_id, target, outcome, detail) FROM reconciled.audit`).Scan(&got); err != nil || got != "ana breaker reset breaker reset {}" {
		t.Error(got, err)
	}
}
