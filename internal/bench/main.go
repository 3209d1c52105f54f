// Command bench measures what reconciliation costs, on private servers that it
// starts and fills: building the tree and keeping it, capturing changes, comparing
// two logs the ways that others do; and, where it is asked for, what healing costs.
// Each figure is printed as a line "figure NAME VALUE UNIT" as it is known, and all of
// them as a table at the end.
//
// The machine is seldom quiet: figures are ratios within one run, and medians,
// wherever that can be.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
)

// groups are the figures that are measured together, a file each. Those that are not
// of reconciliation are measured where they are named.
var groups = []struct {
	name    string
	measure func(context.Context, *dataset, *figures) error
	named   bool
}{
	{name: "build", measure: measureBuild},
	{name: "walk", measure: measureWalk},
	{name: "line", measure: measureLine},
	{name: "baselines", measure: measureBaselines},
	{name: "memory", measure: measureMemory},
	{name: "trigger", measure: measureTrigger},
	{name: "heal", measure: measureHeal, named: true},
}

func main() {
	n := flag.String("n", "1000000", "events, one or more sizes with commas between")
	dir := flag.String("dir", "", "keep the filled servers here for the next run; empty: a temporary directory")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: bench [-n N,…] [-dir DIR] [build|walk|line|baselines|memory|trigger|heal …]")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *n, *dir, flag.Args(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, sizes, dir string, only []string, out io.Writer) error {
	f := &figures{out: out}
	for size := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(size)
		if err != nil || n < 10_000 {
			return fmt.Errorf("-n: %q is not a number of events, at least 10000", size)
		}
		if err := measure(ctx, n, dir, only, f); err != nil {
			return err
		}
	}
	return f.table()
}

func measure(ctx context.Context, n int, dir string, only []string, f *figures) (err error) {
	d, err := open(ctx, n, dir)
	if err != nil {
		return err
	}
	defer func() {
		if closed := d.close(context.WithoutCancel(ctx)); err == nil {
			err = closed
		}
	}()
	f.suffix = ""
	if n != 1_000_000 {
		f.suffix = "@" + strings.Replace(fmt.Sprintf("%.0e", float64(n)), "e+0", "e", 1)
	}
	fmt.Fprintf(f.out, "# %d events over %d days, 8:00 to 20:00; content %d B on average, in payload and in delta_payload\n", d.n, d.days, d.content)
	for _, group := range groups {
		if !slices.Contains(only, group.name) && (len(only) > 0 || group.named) {
			continue
		}
		if err := group.measure(ctx, d, f); err != nil {
			return fmt.Errorf("measure %s: %w", group.name, err)
		}
	}
	return nil
}

// figures are what was measured so far.
type figures struct {
	out    io.Writer
	suffix string // of names, where the size is not the usual one
	rows   []string
}

// add prints a figure and keeps it for the table.
func (f *figures) add(name string, value float64, unit string) {
	text := strconv.FormatFloat(value, 'g', 4, 64)
	if value >= 1000 {
		text = strconv.FormatFloat(value, 'f', 0, 64)
	}
	fmt.Fprintf(f.out, "figure %s%s %s %s\n", name, f.suffix, text, unit)
	f.rows = append(f.rows, fmt.Sprintf("| %s%s | %s | %s |", name, f.suffix, text, unit))
}

func (f *figures) table() error {
	_, err := fmt.Fprintf(f.out, "\n| figure | value | unit |\n|---|---|---|\n%s\n", strings.Join(f.rows, "\n"))
	return err
}

// median of an odd or even number of values.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
