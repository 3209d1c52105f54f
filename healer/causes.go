package healer

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/healer/projection"
)

// causes says which events of a batch must wait for one that their maker named in
// causal_dependencies: it is not in the log, or its own rows are not there yet. What will
// never have rows holds nobody up, nor does what names no event.
func (r *run) causes(ctx context.Context, batch []candidate) (map[uuid.UUID]projection.Outcome, error) {
	named := map[uuid.UUID]string{} // and what is still missing of it
	for _, c := range batch {
		for _, text := range c.Causal {
			if id, err := uuid.Parse(text); err == nil && id != c.ID {
				named[id] = "is not in the log"
			}
		}
	}
	if len(named) == 0 {
		return nil, nil
	}
	ids := make([]uuid.UUID, 0, len(named))
	for id := range named {
		ids = append(ids, id)
	}
	events, err := r.store.Named(ctx, r.grant, ids, r.opts)
	if err != nil {
		return nil, fmt.Errorf("read causes: %w", err)
	}
	var there []candidate
	var asks []projection.Asks
	for i := range events {
		l := &events[i]
		intent, err := projection.Read(l.Event)
		switch {
		case l.Grace > 0:
			named[l.ID] = "is the POS backend's to project"
		case err != nil: // poison
			delete(named, l.ID)
		default:
			there, asks = append(there, candidate{l, intent}), append(asks, intent.Asks())
		}
	}
	facts, err := r.store.Facts(ctx, r.grant.Store, asks)
	if err != nil {
		return nil, fmt.Errorf("read facts of causes: %w", err)
	}
	for _, c := range there {
		switch class := c.intent.Plan(facts).Class; class {
		case projection.Actionable, projection.Waiting, projection.Blocked:
			named[c.ID] = fmt.Sprintf("is %s itself", class)
		default:
			delete(named, c.ID)
		}
	}
	waiting := map[uuid.UUID]projection.Outcome{}
	for _, c := range batch {
		for _, text := range c.Causal {
			id, err := uuid.Parse(text)
			if lacks, waits := named[id]; err == nil && waits && id != c.ID {
				waiting[c.ID] = projection.Outcome{
					Class: projection.Waiting, Waits: projection.Ref{Table: projection.Events, ID: id},
					Reason: fmt.Sprintf("it follows event %s, which %s", id, lacks),
				}
				break
			}
		}
	}
	return waiting, nil
}
