package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// teller tells the audience what happens: scenes, lines, and on a terminal bars.
type teller struct {
	out    io.Writer
	scenes int
	bars   *mpb.Progress // nil when out is no terminal
	open   map[string]*mpb.Bar
}

func newTeller(out io.Writer) *teller {
	t := &teller{out: out, open: map[string]*mpb.Bar{}}
	if file, ok := out.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			t.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(40), mpb.WithRefreshRate(100*time.Millisecond))
		}
	}
	return t
}

func (t *teller) scene(format string, args ...any) {
	t.scenes++
	fmt.Fprintf(t.out, "\n%d. %s\n", t.scenes, fmt.Sprintf(format, args...))
}

func (t *teller) line(format string, args ...any) { fmt.Fprintf(t.out, format+"\n", args...) }

// progress moves a bar. Without a terminal there is nothing to move.
func (t *teller) progress(name string, done, total int) {
	if t.bars == nil || name == "" || total == 0 {
		return
	}
	bar := t.open[name]
	if bar == nil {
		bar = t.bars.AddBar(int64(total),
			mpb.PrependDecorators(decor.Name("  "+name, decor.WC{W: 24, C: decor.DindentRight})),
			mpb.AppendDecorators(decor.CountersNoUnit("%d / %d")))
		t.open[name] = bar
	}
	bar.SetCurrent(int64(min(done, total)))
}

// progressDone ends all bars, full, and waits until they are drawn.
func (t *teller) progressDone() {
	if t.bars == nil || len(t.open) == 0 {
		return
	}
	for name, bar := range t.open {
		bar.SetTotal(-1, true)
		delete(t.open, name)
	}
	t.bars.Wait()
	t.bars = mpb.New(mpb.WithOutput(t.out), mpb.WithWidth(40), mpb.WithRefreshRate(100*time.Millisecond))
}

// table prints what was planted and what became of it; true when all is well.
func (d *demo) table() bool {
	d.out.scene("What was planted, and what became of it")
	met := true
	rule := strings.Repeat("─", 128)
	d.out.line("  %-56s %8s  %-24s %-30s", "fault", "planted", "found", "healed, or named")
	d.out.line("  %s", rule)
	for _, f := range d.faults {
		mark := "✓"
		if len(f.problems) > 0 {
			mark, met = "✗", false
		}
		d.out.line("  %-56s %8d  %-24s %-30s %s", f.name, f.planted, f.found, f.outcome, mark)
		for _, problem := range f.problems {
			d.out.line("      %s", problem)
		}
	}
	d.out.line("  %s", rule)
	d.out.line("  Merkle root of the store    %x  %d events", d.last.Here.Digest, d.last.Here.Count)
	d.out.line("  without the %d known ones    %x  %d events, the same on both sides", sum(d.last.Exceptions), d.last.Agreed.Digest, d.last.Agreed.Count)
	d.out.line("")
	d.out.line("  %s after %s", map[bool]string{true: "Every expectation held", false: "NOT every expectation held"}[met], time.Since(d.began).Round(100*time.Millisecond))
	return met
}
