package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/velox"
)

// GrantedRanges is the POS's book of which device may give which fiscal numbers. Safe for
// concurrent use.
type GrantedRanges struct{ db *DB }

// NewGrantedRanges returns the book kept in db.
func NewGrantedRanges(db *DB) *GrantedRanges { return &GrantedRanges{db: db} }

// GrantedRange is a row of fiscal_sequence_ranges, as it is.
type GrantedRange struct {
	ID         uuid.UUID
	Series     uuid.UUID
	Device     string
	Start, End int64
	UsedUpTo   int64
	Status     string
	Granted    time.Time
	Expires    *time.Time // nil: never
}

// List reads a store's ranges, those that are active first and of these the latest, and
// counts all.
func (f *GrantedRanges) List(ctx context.Context, store velox.StoreID, limit int) (list []GrantedRange, total int, err error) {
	rows, err := f.db.Pool.Query(ctx, `
		SELECT id, series_id, device_id, range_start, range_end, coalesce(used_up_to, 0), coalesce(status, ''), coalesce(granted_at, 'epoch'),
			CASE WHEN isfinite(expires_at) THEN expires_at END, count(*) OVER ()
		FROM public.fiscal_sequence_ranges WHERE store_id = $1 ORDER BY status = 'active' DESC NULLS LAST, granted_at DESC NULLS LAST, id LIMIT $2`, store, limit)
	if err != nil {
		return nil, 0, fmt.Errorf("list fiscal ranges: %w", err)
	}
	list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r GrantedRange, err error) {
		return r, row.Scan(&r.ID, &r.Series, &r.Device, &r.Start, &r.End, &r.UsedUpTo, &r.Status, &r.Granted, &r.Expires, &total)
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list fiscal ranges: %w", err)
	}
	return list, total, nil
}
