package postgres

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/velox"
)

// sold reads when sales were written that differ from their events in what may be edited
// online, and what the last heal of such an event found there and left.
func (r *factReader) sold() {
	r.facts.Sold = map[uuid.UUID]projection.Sold{}
	events, sales := []uuid.UUID{}, []uuid.UUID{}
	for _, a := range r.asks {
		if a.Row != nil && a.Row.Table == projection.Sales && slices.ContainsFunc(r.facts.Differs[a.Event.ID].Columns, projection.Circumstance) {
			events, sales = append(events, a.Event.ID), append(sales, a.Row.Values["id"].(uuid.UUID))
		}
	}
	if len(events) == 0 {
		return
	}
	var (
		event   uuid.UUID
		updated velox.Millis
		fresh   bool
		written *velox.Millis
		left    []byte
		unread  error
	)
	r.each("sales that differ", `SELECT asked.event, reconciled.ms(s.updated_at),
			coalesce(isfinite(s.updated_at) AND s.updated_at <= s.created_at + interval '1 second', false),
			reconciled.ms(greatest(o.at, h.at)), h.row::text
		FROM unnest($2::uuid[], $3::uuid[]) AS asked (event, sale)
		JOIN public.sales s ON s.id = asked.sale AND s.store_id = $1
		CROSS JOIN LATERAL (SELECT max(processed_at) AS at FROM public.outbox_entries
			WHERE event_id IN (asked.event::text, upper(asked.event::text)) AND target = 'projection') o
		LEFT JOIN LATERAL (SELECT healed_at AS at, after -> 'row' AS row FROM reconciled.heal_log
			WHERE store_id = $1 AND event_id = asked.event AND strategy = 'native' ORDER BY id DESC LIMIT 1) h ON true`,
		[]any{r.store, events, sales}, []any{&event, &updated, &fresh, &written, &left}, func() {
			s := projection.Sold{Writing: projection.Writing{UpdatedAt: updated, Fresh: fresh}}
			if written != nil {
				s.Written = map[uuid.UUID]velox.Millis{event: *written}
			}
			if left != nil { // else the heal has written nothing there, or there was none
				unread = errors.Join(unread, json.Unmarshal(left, &s.Left))
			}
			r.facts.Sold[event] = s
		})
	if r.err == nil {
		r.err = unread
	}
}
