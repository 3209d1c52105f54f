package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

//go:embed migrations/*.sql
var migrations embed.FS

const versionTable = "reconciled.schema_version"

// ErrSchemaVersion: the schema is older or newer than this program.
var ErrSchemaVersion = errors.New("schema version")

// Migrate brings schema reconciled to this program's version. url is the
// migration role's. It returns the names of the migrations that it applied.
func Migrate(ctx context.Context, url string) ([]string, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("parse migration url: %w", withoutSecret(err))
	}
	db := stdlib.OpenDB(*config)
	defer db.Close()
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("open embedded migrations: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithTableName(versionTable))
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	results, err := provider.Up(ctx)
	var applied []string
	for _, r := range results {
		applied = append(applied, r.Source.Path)
	}
	if err != nil {
		return applied, fmt.Errorf("migrate schema reconciled: %w", err)
	}
	return applied, nil
}

// CheckVersion fails with ErrSchemaVersion unless the schema is this program's.
func (db *DB) CheckVersion(ctx context.Context) error {
	want, err := latestMigration()
	if err != nil {
		return err
	}
	var have int64
	err = db.Pool.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM `+versionTable+` WHERE is_applied`).Scan(&have)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && slices.Contains([]string{"42P01", "42501", "3F000"}, pgErr.Code) {
		return fmt.Errorf("%w: schema reconciled cannot be read, run `reconciled migrate`: %w", ErrSchemaVersion, err)
	}
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if have != want {
		return fmt.Errorf("%w is %d, this program needs %d: run `reconciled migrate` of the same release", ErrSchemaVersion, have, want)
	}
	return nil
}

func latestMigration() (int64, error) {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil || len(names) == 0 {
		return 0, fmt.Errorf("read embedded migrations: %w", err)
	}
	return goose.NumericComponent(names[len(names)-1])
}
