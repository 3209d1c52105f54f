package merkle

import "context"

// Answer is the answering side: it keeps nothing between messages, each is
// answered from the view as it is then.
func (v View) Answer(ctx context.Context, q Questions) (Answers, error) {
	answers := Answers{Areas: make([]Answer, len(q.Areas))}
	if s := q.Sketch; s != nil {
		answers.Cells = v.Tree.sketch(q.Salt, sketchSpan{s.From, s.Now}, min(s.Cells, maxCells))
	}
	var listed []int // questions that are answered with a list
	parts, items, inside := 0, 0, 0
	if err := v.squares(ctx, q.Pairs, &answers, &items); err != nil {
		return Answers{}, err
	}
	for i, area := range q.Areas {
		if !area.whole() {
			inside++
		}
		if parts >= maxParts || items >= maxListed || inside > partsAtOnce {
			answers.Areas[i].Later = true
			continue
		}
		count, err := v.count(ctx, area)
		switch {
		case err != nil:
			return Answers{}, err
		case count == 0:
		case count <= fewAtMost, count <= listAtMost && area.First == area.Last:
			listed = append(listed, i)
			items += int(count)
		case area.First < area.Last:
			answers.Areas[i].Runs = v.Tree.runs(q.Salt, area.First, area.Last, runsAtOnce)
			parts += len(answers.Areas[i].Runs)
		default:
			split, err := v.split(ctx, area.within())
			if err != nil {
				return Answers{}, err
			}
			answers.Areas[i].Parts = q.Salt.parts(split)
			parts += len(split)
		}
	}
	return answers, v.list(ctx, q, listed, answers.Areas)
}

// squares sums those of slots, the first ones if they are too many for a message.
func (v View) squares(ctx context.Context, slots []int64, answers *Answers, items *int) error {
	var spans []Span
	for _, slot := range slots {
		if *items >= maxListed {
			break
		}
		*items += int(v.Tree.Leaf(slot).Count)
		spans = append(spans, slotArea(slot).Span())
	}
	sums := make([]element, len(spans))
	at := 0
	err := v.scanAll(ctx, spans, func(item Item) {
		for !spans[at].Holds(item.Key) {
			at++
		}
		sums[at] = sums[at].plus(item.element().times(item.element()))
	})
	for _, sum := range sums {
		answers.Squares = append(answers.Squares, Square(sum))
	}
	return err
}

// count is how many events the view holds in an area.
func (v View) count(ctx context.Context, area Area) (uint64, error) {
	if area.whole() {
		count, _ := v.Tree.events(area.First, area.Last)
		return count, nil
	}
	s, err := v.summary(ctx, area.Part)
	return s.Count, err
}

// list reads the items of all areas that are listed at once.
func (v View) list(ctx context.Context, q Questions, listed []int, answers []Answer) error {
	spans := make([]Span, len(listed))
	for i, at := range listed {
		spans[i] = q.Areas[at].Span()
	}
	n := 0
	return v.scanAll(ctx, spans, func(item Item) {
		for !spans[n].Holds(item.Key) {
			n++
		}
		// Items may be newer than the tree that counted them: a list that is cut makes
		// the asker send too much, which is answered with "present".
		if list := &answers[listed[n]].List; len(*list) < 2*listAtMost {
			*list = append(*list, q.Salt.short(item.Digest))
		}
	})
}

// split says what a slot, or a part of one, holds in smaller parts: children of
// children, the fullest first, until there are enough of them. A chain of single
// children costs nothing that way.
func (v View) split(ctx context.Context, whole Range) ([]Summary, error) {
	parts, err := v.children(ctx, whole)
	for err == nil && len(parts) < runsAtOnce {
		i := fullest(parts)
		if i < 0 || parts[i].Count <= listAtMost {
			break
		}
		var inside []Summary
		if inside, err = v.children(ctx, parts[i].Range); err == nil {
			parts = append(parts[:i], append(inside, parts[i+1:]...)...)
		}
	}
	return parts, err
}

// fullest is the part with the most events, -1 when there is none.
func fullest(parts []Summary) int {
	at := -1
	for i, p := range parts {
		if at < 0 || p.Count > parts[at].Count {
			at = i
		}
	}
	return at
}

// parts cuts digests for this round.
func (s Salt) parts(list []Summary) []Part {
	cut := make([]Part, len(list))
	for i, p := range list {
		cut[i] = Part{Range: p.Range, Count: p.Count, Short: s.short(p.Digest)}
	}
	return cut
}
