package main

import (
	"fmt"

	"github.com/veloxpos/reconciled/internal/config"
)

// checkConfigCommand is `reconciled check-config`.
type checkConfigCommand struct {
	For string `help:"What the configuration is for: run, central or migrate." enum:"run,central,migrate" default:"run"`
}

// Run reports every fault at once, or what the configuration says.
func (k checkConfigCommand) Run(d *deps) error {
	mode := map[string]config.Mode{"run": config.Store, "central": config.CentralServer, "migrate": config.Migrate}[k.For]
	c, err := d.load(mode)
	if err != nil {
		fmt.Fprintln(d.stderr, "reconciled:", err)
		return exitError(exitConfig)
	}
	fmt.Fprintf(d.stdout, "%s: good for `reconciled %s`\n", d.config, k.For)
	if mode == config.Migrate {
		return nil
	}
	stores := "every store in the database"
	if n := len(c.Stores); n > 0 {
		stores = fmt.Sprintf("%d stores", n)
	}
	fmt.Fprintf(d.stdout, "  serves %s, operators at %s\n  heals %s, reconciles %s, lock TTL %s\n",
		stores, c.API.Listen, c.Schedule.Heal, c.Schedule.Reconcile, c.Lock.TTL)
	return nil
}
