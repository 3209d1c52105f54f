package main

import (
	"io"
	"os"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// newProgress shows a bar on a terminal, and nothing elsewhere. update moves it; a
// total of 0 is one that is not known. done takes it away and must be called.
func newProgress(w io.Writer, title string) (update func(done, total uint64), done func()) {
	if !isTerminal(w) {
		return func(uint64, uint64) {}, func() {}
	}
	bars := mpb.New(mpb.WithOutput(w), mpb.WithWidth(40), mpb.WithRefreshRate(100*time.Millisecond))
	bar := bars.AddBar(0, mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(title+" ")), mpb.AppendDecorators(decor.CurrentNoUnit("%d")))
	update = func(done, total uint64) {
		bar.SetTotal(int64(max(done+1, total)), false) // never full before done: it would end
		bar.SetCurrent(int64(done))
	}
	return update, func() {
		bar.SetTotal(-1, true)
		bars.Wait()
	}
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
