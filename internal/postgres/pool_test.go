package postgres_test

import (
	"testing"

	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
)

// What every statement goes by, whatever the server's own settings are.
func TestAConnectionHasItsOwnSettings(t *testing.T) {
	site := postgrestest.New(t)
	for name, want := range map[string]string{
		"jit": "off", "row_security": "off", "TimeZone": "UTC", "search_path": "public", "application_name": "reconciled",
	} {
		var got string
		if err := site.DB.Pool.QueryRow(t.Context(), `SELECT current_setting($1)`, name).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
}
