// Package veloxdb knows the shape of a Velox POS database.
//
// Create makes an empty one for tests and the demo. Check looks at a live one
// before anything is touched, and promises to name everything that is wrong
// with it at once: what this program needs and does not find, and what it must
// not be able to do and could.
package veloxdb

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"
)

//go:embed schema.sql
var schemaSQL string

//go:embed indexes.sql
var indexesSQL string

// Create makes the POS tables, empty, in the connection's current schema,
// owned by its role; all or nothing.
func Create(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.PgConn().Exec(ctx, "BEGIN;\n"+schemaSQL+indexesSQL+"COMMIT").ReadAll()
	if err != nil {
		_, rollbackErr := conn.Exec(ctx, "ROLLBACK")
		if rollbackErr != nil {
			return fmt.Errorf("create velox schema: %w (roll back: %v)", err, rollbackErr)
		}
		return fmt.Errorf("create velox schema: %w", err)
	}
	return nil
}
