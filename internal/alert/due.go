package alert

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	// Window is what a channel's limit counts in.
	Window = 10 * time.Minute
	// few is how many messages of one store go out one by one.
	few = 3
	// digestAtMost bounds the notices in one message: about 50 KB of text and half a
	// megabyte of JSON.
	digestAtMost = 250
)

// Due is what to send over a channel now, of its deliveries that wait; the gravest
// first. sent is how many messages went out over it within the last Window. More
// than a few of one store go out as one message, and so does all that waits when the
// limit leaves no room for it otherwise. What finds no room at all waits on.
func (c Channel) Due(now time.Time, waiting []Delivery, sent int) []Batch {
	var urgent, due []Delivery
	for _, d := range waiting {
		switch {
		case d.Channel != c.Name || !d.DoneAt.IsZero() || d.NextAttempt.After(now):
		case KindOf(d.Message.Items[0].Code).AtOnce:
			urgent = append(urgent, d)
		default:
			due = append(due, d)
		}
	}
	batches := c.batches(now, urgent, few) // in each call, whatever went out before
	room := len(due)
	if c.Limit > 0 {
		room = max(c.Limit-sent-len(batches), 0)
	}
	return append(batches, c.batches(now, due, room)...)
}

// batches makes room messages at most.
func (c Channel) batches(now time.Time, due []Delivery, room int) []Batch {
	slices.SortStableFunc(due, func(a, b Delivery) int { return heavier(a.Message.Items[0], b.Message.Items[0]) })
	pieces := byStore(due)
	if len(pieces) > room {
		pieces = together(due)
	}
	var batches []Batch
	for _, piece := range pieces[:min(room, len(pieces))] {
		message := piece[0].Message
		if len(piece) > 1 {
			var items []Item
			for _, d := range piece {
				items = append(items, d.Message.Items...)
			}
			message = digest(now, items, orBoth(c.Langs))
		}
		batches = append(batches, Batch{Message: message, Deliveries: piece})
	}
	return batches
}

// byStore leaves a few of one store apart, and puts more together.
func byStore(due []Delivery) (pieces [][]Delivery) {
	stores := map[uuid.UUID][]Delivery{}
	var order []uuid.UUID
	for _, d := range due {
		if stores[d.Store] == nil {
			order = append(order, d.Store)
		}
		stores[d.Store] = append(stores[d.Store], d)
	}
	for _, store := range order {
		if group := stores[store]; len(group) > few {
			pieces = append(pieces, together(group)...)
		} else {
			pieces = slices.AppendSeq(pieces, slices.Chunk(group, 1))
		}
	}
	return pieces
}

// together puts everything into as few pieces as may be.
func together(due []Delivery) (pieces [][]Delivery) {
	var several []Delivery
	for _, d := range due {
		if d.Alone {
			pieces = append(pieces, []Delivery{d})
		} else {
			several = append(several, d)
		}
	}
	return slices.AppendSeq(slices.Collect(slices.Chunk(several, digestAtMost)), slices.Values(pieces))
}

// heavier orders items by what is at stake, then by when they came up.
func heavier(a, b Item) int {
	weight := func(i Item) int {
		return slices.Index([]Severity{Critical, High, Medium}, i.Severity)
	}
	return cmp.Or(cmp.Compare(weight(a), weight(b)), a.At.Compare(b.At))
}

// digest is one message of several items: a line and a command each.
func digest(now time.Time, items []Item, langs []Lang) Message {
	var name strings.Builder
	stores, codes := map[uuid.UUID]bool{}, map[Code]int{}
	for _, i := range items {
		fmt.Fprintln(&name, i.ID, i.News, i.At.UnixNano())
		stores[i.Store] = true
		codes[i.Code]++
	}
	heading := func(lang Lang) string {
		w := words[lang]
		where := items[0].store()
		if len(stores) > 1 {
			where = fmt.Sprintf(w.stores, len(stores))
		}
		return fmt.Sprintf(w.digest, w.severity[items[0].Severity], len(items), where)
	}
	return Message{
		ID: uuid.NewSHA1(items[0].ID, []byte(name.String())), At: now, Items: items, Subject: heading(langs[0]),
		Text: inEach(langs, func(lang Lang) string {
			var b strings.Builder
			fmt.Fprintf(&b, "%s\n", heading(lang))
			for _, code := range slices.Sorted(maps.Keys(codes)) {
				fmt.Fprintf(&b, "%6d %s\n", codes[code], code)
			}
			for _, i := range items {
				fmt.Fprintf(&b, "\n%s\n  %s\n", i.Summary(lang), i.brief(lang))
			}
			return b.String()
		}),
	}
}
