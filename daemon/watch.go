package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/internal/telemetry"
)

// Book keeps alerts, and what people are told of them.
type Book interface {
	// Step keeps what step makes of a store's alerts, all or nothing, unless it was done
	// less than gap ago.
	Step(ctx context.Context, store uuid.UUID, gap time.Duration, step func(now time.Time, kept []alert.Alert) ([]alert.Alert, []alert.Delivery)) error
	// Waiting are the deliveries of a channel that are due, and how many messages went
	// out over it within alert.Window.
	Waiting(ctx context.Context, channel string) (waiting []alert.Delivery, sent int, now time.Time, err error)
	// Keep writes down what became of deliveries.
	Keep(ctx context.Context, list []alert.Delivery) error
	// Claim makes sender the one who sends over a channel for a term, unless another is.
	Claim(ctx context.Context, channel string, sender uuid.UUID, term time.Duration) (mine bool, err error)
	// Release ends a claim.
	Release(ctx context.Context, channel string, sender uuid.UUID) error
	// Standing are the alerts that stand, and those that have just resolved, by store.
	Standing(ctx context.Context) (map[uuid.UUID][]alert.Alert, time.Time, error)
}

// Outlet is a channel, and what sends over it.
type Outlet struct {
	alert.Channel
	Sender Sender
	// Restate is how often a receiver that forgets is told what stands; 0: it does not
	// forget.
	Restate time.Duration
	// Bare: it is told that the database is down, too, of which nothing can be kept.
	Bare bool
}

// Sender sends a message, or says why it could not.
type Sender interface {
	Send(ctx context.Context, message alert.Message) error
}

// WatchOptions of a Watch.
type WatchOptions struct {
	Outlets []Outlet
	// Screen is the channel of the POS's own screens, whose messages are rows of its
	// database, written by a task under the store's lock; nil: none.
	Screen *alert.Channel
	// Gap is how long after another daemon's look a store is not looked at.
	Gap     time.Duration
	Outage  *Outage
	Metrics *telemetry.Metrics // may be nil
}

// Watch looks at stores, keeps their alerts and tells people of them.
type Watch struct {
	monitor *Monitor
	book    Book
	opts    WatchOptions
	logger  *zap.Logger
	sender  uuid.UUID // of this process
	wake    map[string]chan struct{}
}

// NewWatch looks through monitor.
func NewWatch(monitor *Monitor, book Book, logger *zap.Logger, opts WatchOptions) *Watch {
	w := &Watch{monitor: monitor, book: book, opts: opts, logger: logger, sender: uuid.New(), wake: map[string]chan struct{}{}}
	for _, outlet := range opts.Outlets {
		w.wake[outlet.Name] = make(chan struct{}, 1)
	}
	return w
}

// channels are all that people are told over.
func (w *Watch) channels() []alert.Channel {
	var channels []alert.Channel
	for _, outlet := range w.opts.Outlets {
		channels = append(channels, outlet.Channel)
	}
	if w.opts.Screen != nil {
		channels = append(channels, *w.opts.Screen)
	}
	return channels
}

// look measures a store and takes its alerts one step. It says whether there is
// something for the store's own screens.
func (w *Watch) look(ctx context.Context, store uuid.UUID) (screen bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	report, err := w.monitor.Measure(ctx, store)
	if err != nil {
		return false, fmt.Errorf("measure health: %w", err)
	}
	channels := w.channels()
	told := map[string]bool{}
	var counts map[alert.Code]map[alert.State]int // nil: another daemon took the step
	err = w.book.Step(ctx, store, w.opts.Gap, func(now time.Time, kept []alert.Alert) ([]alert.Alert, []alert.Delivery) {
		changed, notices := alert.Step(now, kept, alert.Find(report), alert.LastRung(channels))
		deliveries := alert.Deliver(notices, channels)
		clear(told)
		for _, d := range deliveries {
			told[d.Channel] = true
		}
		counts = counted(kept, changed)
		return changed, deliveries
	})
	if err != nil {
		return false, fmt.Errorf("keep alerts: %w", err)
	}
	for channel := range told {
		w.nudge(channel)
	}
	if w.opts.Metrics != nil && counts != nil {
		telemetry.Alerts(w.opts.Metrics, store.String(), counts)
	}
	return w.opts.Screen != nil && told[w.opts.Screen.Name], nil
}

// database says whether the database is down now for a store, and why: nil when it is
// not.
func (w *Watch) database(store uuid.UUID, down error) {
	w.opts.Outage.step(store, down)
}

// counted are the alerts of a store that are not over, by code and state.
func counted(kept, changed []alert.Alert) map[alert.Code]map[alert.State]int {
	now := map[uuid.UUID]alert.Alert{}
	for _, list := range [][]alert.Alert{kept, changed} {
		for _, a := range list {
			now[a.ID] = a
		}
	}
	counts := map[alert.Code]map[alert.State]int{}
	for _, a := range now {
		if a.State == alert.Resolved || a.State == alert.Forgotten {
			continue
		}
		if counts[a.Code] == nil {
			counts[a.Code] = map[alert.State]int{}
		}
		counts[a.Code][a.State]++
	}
	return counts
}

// nudge lets a channel look for what is due now.
func (w *Watch) nudge(channel string) {
	select {
	case w.wake[channel] <- struct{}{}:
	default: // it will, or there is none
	}
}

const (
	// sendEvery is how long what is held back by a limit or a failure may wait beyond
	// its time.
	sendEvery = 10 * time.Second
	// claimTerm is how long others wait before they send in place of a process that
	// has died; sendTimeout is below it, so that two seldom send the same.
	claimTerm   = 2 * time.Minute
	sendTimeout = time.Minute
)

// send tells people until ctx ends, over each outlet by itself: one that does not
// answer holds up no other.
func (w *Watch) send(ctx context.Context) {
	var outlets sync.WaitGroup
	for _, outlet := range w.opts.Outlets {
		outlets.Go(func() { w.serve(ctx, outlet) })
	}
	outlets.Wait()
}

func (w *Watch) serve(ctx context.Context, outlet Outlet) {
	ticker := time.NewTicker(sendEvery)
	defer ticker.Stop()
	var restated time.Time
	defer w.release(ctx, outlet)
	for {
		if outlet.Bare { // first: it needs no database, which may hang
			w.opts.Outage.deliver(ctx, outlet)
		}
		if w.claim(ctx, outlet) {
			w.deliver(ctx, outlet)
			if outlet.Restate > 0 && time.Since(restated) >= outlet.Restate {
				restated = time.Now()
				w.restate(ctx, outlet)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-w.wake[outlet.Name]:
		}
	}
}

// bookTimeout bounds each look into the book: a database that hangs must not keep an
// outlet from telling that it does.
const bookTimeout = 10 * time.Second

// claim says whether this process sends over the outlet; not when that is not known.
func (w *Watch) claim(ctx context.Context, outlet Outlet) bool {
	ctx, cancel := context.WithTimeout(ctx, bookTimeout)
	defer cancel()
	mine, err := w.book.Claim(ctx, outlet.Name, w.sender, claimTerm)
	w.unread(outlet, err)
	return err == nil && mine
}

// unread logs that the book could not be looked into. That the database is down is told
// by the look; that this process may not read the book, or cannot, by nothing else.
func (w *Watch) unread(outlet Outlet, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		w.logger.Warn("alerts not read: nothing is sent over the channel until they are", zap.String("channel", outlet.Name), zap.Error(err))
	}
}

// release lets the next process send at once, be it this one after a restart.
func (w *Watch) release(ctx context.Context, outlet Outlet) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), bookTimeout)
	defer cancel()
	_ = w.book.Release(ctx, outlet.Name, w.sender) // else the claim runs out
}

// deliver sends what is due over an outlet, as long as it is this process's to do.
func (w *Watch) deliver(ctx context.Context, outlet Outlet) {
	reading, cancel := context.WithTimeout(ctx, bookTimeout)
	waiting, sent, now, err := w.book.Waiting(reading, outlet.Name)
	cancel()
	if err != nil {
		w.unread(outlet, err)
		return
	}
	for i, batch := range outlet.Due(now, waiting, sent) {
		if i > 0 && !w.claim(ctx, outlet) {
			return
		}
		sending, cancel := context.WithTimeout(ctx, sendTimeout)
		err := outlet.Sender.Send(sending, batch.Message)
		cancel()
		if err != nil && ctx.Err() != nil {
			return // not known to have failed: it is sent again
		}
		became := batch.Sent(now)
		if err != nil {
			became = batch.Failed(now, err)
			w.logger.Warn("message not sent", zap.String("channel", outlet.Name), zap.String("subject", batch.Message.Subject), zap.Error(err))
		}
		keeping, cancel := context.WithTimeout(context.WithoutCancel(ctx), bookTimeout)
		err = w.book.Keep(keeping, became)
		cancel()
		if err != nil {
			w.logger.Error("delivery not kept: the message may go out twice", zap.String("channel", outlet.Name), zap.Error(err))
			return
		}
		now = now.Add(time.Microsecond) // messages are counted by when they were done
	}
}

// restate tells a receiver that forgets what stands.
func (w *Watch) restate(ctx context.Context, outlet Outlet) {
	reading, cancel := context.WithTimeout(ctx, bookTimeout)
	stores, now, err := w.book.Standing(reading)
	cancel()
	if err != nil {
		w.unread(outlet, err)
		return
	}
	for _, alerts := range stores {
		message, ok := alert.Standing(now, alerts)
		if !ok {
			continue
		}
		if !w.claim(ctx, outlet) {
			return
		}
		sending, cancel := context.WithTimeout(ctx, sendTimeout)
		err := outlet.Sender.Send(sending, message)
		cancel()
		if err != nil {
			w.logger.Warn("what stands was not told", zap.String("channel", outlet.Name), zap.Error(err))
			return
		}
	}
}
