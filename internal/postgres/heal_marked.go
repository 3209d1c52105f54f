package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer"
	"github.com/veloxpos/reconciled/healer/projection"
)

// markHealed settles the events' statuses and outbox entries, and writes the
// heal log.
func (a *application) markHealed(ctx context.Context) error {
	type entry struct {
		Event  uuid.UUID      `json:"event_id"`
		Before map[string]any `json:"before"`
		After  map[string]any `json:"after"`
	}
	var entries []entry
	var events []string
	for _, heal := range a.going {
		before, after := a.told(heal)
		entries = append(entries, entry{heal.Event.ID, before, after})
		events = append(events, heal.Event.ID.String())
	}
	if len(entries) == 0 {
		return nil
	}
	text, err := json.Marshal(entries)
	if err != nil {
		return fmt.Errorf("print heal log: %w", err)
	}
	_, err = a.tx.Exec(ctx, `
		WITH healed AS (
			SELECT e.event_id, e.type, n.after, n.before || jsonb_build_object(
				'projection_status', e.projection_status, 'projection_error', e.projection_error) AS before
			FROM jsonb_to_recordset($2::jsonb) AS n (event_id uuid, before jsonb, after jsonb) JOIN public.events e ON e.event_id = n.event_id
		), marked AS (
			UPDATE public.events e SET projection_status = 'processed', projection_error = NULL FROM healed
			WHERE e.event_id = healed.event_id
			  AND (e.projection_status <> 'processed' OR e.projection_error IS NOT NULL)
		)
		INSERT INTO reconciled.heal_log (store_id, event_id, type, strategy, before, after, epoch, run_id)
		SELECT $1, event_id, type, 'native', before, after, $3, $4 FROM healed`,
		a.grant.Store, string(text), a.grant.Epoch, a.grant.Run)
	if err != nil {
		return fmt.Errorf("mark events healed: %w", err)
	}
	_, err = a.tx.Exec(ctx, `UPDATE public.outbox_entries SET status = 'processed', error = NULL, processed_at = now()
		WHERE id = ANY($1) AND lower(event_id) = ANY($2)`, a.outbox, events)
	if err != nil {
		return fmt.Errorf("settle outbox: %w", err)
	}
	return nil
}

// told is what the heal log says of a heal: what was there, what is there now.
func (a *application) told(heal *healer.Heal) (before, after map[string]any) {
	c := heal.Changes
	before, after = map[string]any{}, map[string]any{"projection_status": "processed", "claim": c.Claims().String()}
	if c.Update != nil && len(c.Update.Set) > 0 {
		before["row"], after["row"] = a.was(*c.Update), c.Update.Set
	}
	rows := map[projection.Table]int{}
	for _, row := range c.Dependents {
		rows[row.Table]++
	}
	if len(rows) > 0 {
		after["rows"] = rows
	}
	if len(c.Also) > 0 {
		was, changed := map[string]any{}, map[string]any{}
		for _, u := range c.Also {
			ref := projection.Ref{Table: u.Table, ID: u.ID}.String()
			was[ref], changed[ref] = a.was(u), u.Set
		}
		before["changed"], after["changed"] = was, changed
	}
	if len(c.Escrow) > 0 {
		was, shares := map[string]string{}, map[string]string{}
		for _, g := range c.Escrow {
			ref := projection.Ref{Table: projection.Quotas, ID: g.Row}.String()
			was[ref], shares[ref] = g.Was, g.Qty
		}
		before["shares"], after["shares"] = was, shares
	}
	if len(c.Exceptions) > 0 {
		after["outstanding"] = c.Exceptions
	}
	return before, after
}

// was is what the columns held that an update sets.
func (a *application) was(u projection.Update) map[string]json.RawMessage {
	was := make(map[string]json.RawMessage, len(u.Set))
	for column := range u.Set {
		was[column] = a.before[u.ID][column]
	}
	return was
}
