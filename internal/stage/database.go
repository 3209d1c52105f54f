// Package stage sets up a chain on one machine: private Postgres instances with a
// store's and central's databases, a private Redis, and both daemons as real
// processes. The demo plays on it, and the end-to-end tests break it.
package stage

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/deploy"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/testkit"
	"github.com/veloxpos/reconciled/internal/velox/veloxdb"
)

// Prepare makes a database as a site has it: the POS's tables owned by role
// velox, the daemon's two roles, its migrated schema.
func Prepare(ctx context.Context, server *testkit.Postgres, name string) error {
	err := server.Exec(ctx, "postgres", `DO $$ BEGIN CREATE ROLE velox LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$`)
	if err != nil {
		return fmt.Errorf("make role velox: %w", err)
	}
	if err := server.CreateDatabase(ctx, name, ""); err != nil {
		return err
	}
	if err := server.Exec(ctx, name, `GRANT ALL ON SCHEMA public TO velox`); err != nil {
		return fmt.Errorf("let velox make tables: %w", err)
	}
	owner, err := pgx.Connect(ctx, server.URL("velox", name))
	if err != nil {
		return fmt.Errorf("connect as velox: %w", err)
	}
	err = veloxdb.Create(ctx, owner)
	if closed := owner.Close(ctx); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("create velox tables: %w", err)
	}
	if err := server.Exec(ctx, name, deploy.Roles); err != nil {
		return fmt.Errorf("make the daemon's roles: %w", err)
	}
	_, err = postgres.Migrate(ctx, server.URL("reconciled_migrator", name))
	return err
}
