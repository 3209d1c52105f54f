package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/veloxpos/reconciled/internal/testkit"
)

// A line as stores have it: 100 ms there and back, 1 Mbit/s.
const (
	lineLatency = 50 * time.Millisecond
	lineRate    = 125_000 // bytes a second
)

// measureLine is the time until both sides agree over a slow line, and how much of
// it is not the events' own way.
func measureLine(ctx context.Context, d *dataset, f *figures) error {
	t, err := d.twins(ctx, func(p *testkit.Proxy) {
		p.SetLatency(lineLatency)
		p.SetRate(lineRate)
	})
	if err != nil {
		return err
	}
	defer t.close()
	for _, difference := range differences {
		took, payload, err := t.agree(ctx, d, difference)
		if err != nil {
			return fmt.Errorf("%s: %w", difference.name, err)
		}
		f.add("merkle.line."+difference.name+".ms", took.Seconds()*1000, "ms")
		f.add("merkle.line."+difference.name+".not_payload", 1-payload.Seconds()/took.Seconds(), "share")
	}
	return nil
}

func (t *twins) agree(ctx context.Context, d *dataset, difference difference) (took, payload time.Duration, err error) {
	mend, err := d.apply(ctx, difference)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, mend(ctx)) }()
	if err := pin(ctx, t.store); err != nil { // the trees are up to date when a round begins
		return 0, 0, err
	}
	began := time.Now()
	_, calls, err := t.round(ctx)
	took = time.Since(began)
	for _, c := range calls {
		if c.name == "push" || c.name == "pull" {
			payload += c.took
		}
	}
	return took, payload, err
}
