package main

import (
	"github.com/veloxpos/reconciled/internal/demo"
)

// demoCommand is `reconciled demo`.
type demoCommand struct {
	Once    bool `help:"End after the table: exit 0 only if every expectation held."`
	Runbook bool `help:"Walk the operators' runbook instead, with each of its incidents planted."`
}

// Run plays the demo.
func (k demoCommand) Run(d *deps) error {
	if k.Runbook {
		return demo.Runbook(d.ctx, demo.Options{Out: d.stdout})
	}
	return demo.Run(d.ctx, demo.Options{Once: k.Once, Out: d.stdout})
}
