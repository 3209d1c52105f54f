package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// Conflicts are events that contradict each other.
type Conflicts interface {
	// Conflicts are the newest of either kind, at most limit.
	Conflicts(ctx context.Context, store uuid.UUID, limit int) (ConflictList, error)
}

// ConflictList are the conflicts that nobody has decided, and those that the POS decided
// by itself.
type ConflictList struct {
	Store          uuid.UUID    `json:"store_id"`
	UndecidedTotal int          `json:"undecided_total"`
	Undecided      []Conflict   `json:"undecided"`
	Resolved       []Resolution `json:"resolved"`
}

// Conflict is an event of which the other side has another content.
type Conflict struct {
	Event          uuid.UUID `json:"event_id"`
	Type           string    `json:"type"`
	Here           string    `json:"here_item"` // the contents' digests
	There          string    `json:"there_item"`
	From           uuid.UUID `json:"there_from"` // installation
	Recommendation string    `json:"recommendation"`
	Found          time.Time `json:"found_at"`
}

// Resolution is a row of conflict_audit_log without the payloads, which have no bound.
type Resolution struct {
	ID         uuid.UUID `json:"id"`
	EntityType string    `json:"entity_type"`
	EntityID   string    `json:"entity_id"`
	Winner     string    `json:"winner_event_id"`
	Losers     []string  `json:"loser_event_ids"` // at most 20
	Strategy   string    `json:"strategy"`
	At         time.Time `json:"resolved_at"`
	By         string    `json:"resolved_by"`
}

func (a *api) conflicts(c *call) (int, any, error) {
	f := a.query(c)
	store, limit := f.store(), f.number("limit", 1, 100, 10)
	if err := f.end(); err != nil {
		return 0, nil, err
	}
	list, err := a.daemon.Conflicts(c.ctx(), store, limit)
	list.Undecided, list.Resolved = some(list.Undecided), some(list.Resolved)
	return http.StatusOK, list, err
}
