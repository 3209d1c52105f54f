package main

import (
	"github.com/veloxpos/reconciled/internal/demo"
)

// demoCommand is `reconciled demo`.
type demoCommand struct {
	Once bool `help:"End after the table: exit 0 only if every expectation held."`
}

// Run plays the demo.
func (k demoCommand) Run(d *deps) error {
	return demo.Run(d.ctx, demo.Options{Once: k.Once, Out: d.stdout})
}
