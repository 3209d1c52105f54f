package postgres

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/healer/projection"
)

// unmet reads the detail of a broken foreign key, as Postgres says it in English.
var unmet = regexp.MustCompile(`^Key \(\w+\)=\(([0-9a-f-]{36})\) is not present in table "(\w+)"`)

// rejected tells rows that the database refuses from a database that cannot be
// worked with: a broken foreign key becomes a *healer.MissingError, what does not
// fit its column healer.ErrUnfit, a row that somebody else holds healer.ErrBusy, what must be unique and is not healer.ErrTaken, any
// other refusal healer.ErrRejected.
func rejected(err error) error {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok:
		return err
	case pgErr.Code[:2] == "22":
		return fmt.Errorf("%w: %w", healer.ErrUnfit, err)
	case pgErr.Code == "55P03", pgErr.Code == "57014":
		return fmt.Errorf("%w: %w", healer.ErrBusy, err)
	case pgErr.Code == "23505":
		return fmt.Errorf("%w: %s (%s): %w", healer.ErrTaken, pgErr.Detail, pgErr.ConstraintName, err)
	case pgErr.Code == "23503":
	case slices.Contains([]string{"23", "44", "54", "P0", "RC"}, pgErr.Code[:2]):
		return fmt.Errorf("%w: %w", healer.ErrRejected, err)
	default:
		return err
	}
	out := &healer.MissingError{Constraint: pgErr.ConstraintName}
	if m := unmet.FindStringSubmatch(pgErr.Detail); m != nil {
		out.Row = projection.Ref{Table: projection.Table(m[2]), ID: uuid.MustParse(m[1])}
	}
	return out
}
