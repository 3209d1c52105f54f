package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// Fiscal is the POS's book of fiscal numbers.
type Fiscal interface {
	// FiscalRanges are the ranges as they stand there, those that are active first, at
	// most limit.
	FiscalRanges(ctx context.Context, store uuid.UUID, limit int) (FiscalRangeList, error)
}

// FiscalRangeList are a store's ranges.
type FiscalRangeList struct {
	Store  uuid.UUID     `json:"store_id"`
	Total  int           `json:"total"`
	Ranges []FiscalRange `json:"ranges"` // at most 1000
}

// FiscalRange is a row of fiscal_sequence_ranges.
type FiscalRange struct {
	ID       uuid.UUID  `json:"id"`
	Series   uuid.UUID  `json:"series_id"`
	Device   string     `json:"device_id"`
	Start    int64      `json:"range_start"`
	End      int64      `json:"range_end"`
	UsedUpTo int64      `json:"used_up_to"`
	Status   string     `json:"status"`
	Granted  time.Time  `json:"granted_at"`
	Expires  *time.Time `json:"expires_at"` // null: never
}

const rangesMost = 1000

func (a *api) fiscalRanges(c *call) (int, any, error) {
	f := a.query(c)
	store := f.store()
	if err := f.end(); err != nil {
		return 0, nil, err
	}
	list, err := a.daemon.FiscalRanges(c.ctx(), store, rangesMost)
	list.Ranges = some(list.Ranges)
	return http.StatusOK, list, err
}
