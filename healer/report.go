package healer

import (
	"maps"

	"github.com/veloxpos/reconciled/healer/projection"
	"github.com/veloxpos/reconciled/internal/velox"
)

// Counts says what became of the events that a run looked at. An event counts
// once, as what it was in the end; those that were projected already are the
// rest of Checked.
type Counts struct {
	Checked     int `json:"checked"`
	Healed      int `json:"healed"`
	Actionable  int `json:"actionable"` // could be healed, and writing was not allowed
	Requeued    int `json:"requeued"`   // given back to the POS backend
	Failed      int `json:"failed"`     // actionable, and the write failed
	Waiting     int `json:"waiting"`
	Semantic    int `json:"semantic"`
	Blocked     int `json:"blocked"`
	Poison      int `json:"poison"`
	Unsupported int `json:"unsupported"`
	Backend     int `json:"backend"` // left to the POS backend this time
}

// Unknown stands for all types that are not among the POS's.
const Unknown velox.Type = "unknown"

// Report is what a run did, in all and by event type.
type Report struct {
	Counts
	ByType map[velox.Type]Counts `json:"by_type"`
}

// What an event can be in the end, beside the projection's classes.
const (
	healed   projection.Class = "healed"
	failed   projection.Class = "failed"
	requeued projection.Class = "requeued"
)

func (c *Counts) add(class projection.Class, n int) {
	switch class {
	case healed:
		c.Healed += n
	case failed:
		c.Failed += n
	case requeued:
		c.Requeued += n
	case projection.Actionable:
		c.Actionable += n
	case projection.Waiting:
		c.Waiting += n
	case projection.Semantic:
		c.Semantic += n
	case projection.Blocked:
		c.Blocked += n
	case projection.Poison:
		c.Poison += n
	case projection.Unsupported:
		c.Unsupported += n
	case projection.Backend:
		c.Backend += n
	}
	c.Checked += n
}

func (r *Report) add(t velox.Type, class projection.Class, n int) {
	if !t.Known() {
		t = Unknown
	}
	r.Counts.add(class, n)
	of := r.ByType[t]
	of.add(class, n)
	r.ByType[t] = of
}

// Plus is both reports in one: of a run that gave way, and of its continuation.
func (r Report) Plus(other Report) Report {
	sum := Report{Counts: r.plus(other.Counts), ByType: maps.Clone(r.ByType)}
	for t, counts := range other.ByType {
		if sum.ByType == nil {
			sum.ByType = map[velox.Type]Counts{}
		}
		sum.ByType[t] = sum.ByType[t].plus(counts)
	}
	return sum
}

func (c Counts) plus(o Counts) Counts {
	return Counts{
		Checked: c.Checked + o.Checked, Healed: c.Healed + o.Healed, Actionable: c.Actionable + o.Actionable,
		Requeued: c.Requeued + o.Requeued, Failed: c.Failed + o.Failed, Waiting: c.Waiting + o.Waiting,
		Semantic: c.Semantic + o.Semantic, Blocked: c.Blocked + o.Blocked, Poison: c.Poison + o.Poison,
		Unsupported: c.Unsupported + o.Unsupported, Backend: c.Backend + o.Backend,
	}
}
