package main

import (
	"fmt"

	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/postgres"
)

// migrateCommand is `reconciled migrate`.
type migrateCommand struct{}

// Run applies what is missing and names it.
func (migrateCommand) Run(d *deps) error {
	c, err := d.load(config.Migrate)
	if err != nil {
		return err
	}
	applied, err := postgres.Migrate(d.ctx, c.Database.MigrateURL)
	for _, name := range applied {
		fmt.Fprintln(d.stdout, "applied", name)
	}
	if err == nil && len(applied) == 0 {
		fmt.Fprintln(d.stdout, "schema reconciled is up to date")
	}
	return err
}
