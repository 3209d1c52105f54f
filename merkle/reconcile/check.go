package reconcile

import (
	"bytes"
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle"
)

// MaxExceptions bounds the agreed list. A store with more has a trouble that no
// list explains.
const MaxExceptions = 10_000

// AnswerCheck is the other side's half of a check. It writes nothing.
func AnswerCheck(ctx context.Context, log Log, installation uuid.UUID, store velox.StoreID, request CheckRequest) (CheckReply, error) {
	if n := len(request.Exceptions); n > MaxExceptions {
		return CheckReply{}, fmt.Errorf("%d exceptions, at most %d can be agreed on", n, MaxExceptions)
	}
	pin, err := log.Pin(ctx, store)
	if err != nil {
		return CheckReply{}, err
	}
	events := make([]uuid.UUID, len(request.Exceptions))
	for i, e := range request.Exceptions {
		events[i] = e.Event
	}
	here, keys, err := held(ctx, log, store, events)
	if err != nil {
		return CheckReply{}, err
	}
	tree, err := pin.Without(ctx, keys)
	if err != nil {
		return CheckReply{}, err
	}
	reply := CheckReply{Installation: installation, Root: RootOf(tree), Whole: RootOf(pin.Tree)}
	reply.Equal = reply.Root == request.Root
	for _, e := range request.Exceptions {
		if bytes.Equal(here[e.Event], e.Digest) { // or nil on both sides: it is nowhere
			reply.Settled = append(reply.Settled, e.Event)
		}
	}
	return reply, nil
}

// held finds which of the events this side has: their digests, and their keys.
func held(ctx context.Context, log Log, store velox.StoreID, events []uuid.UUID) (map[uuid.UUID][]byte, []merkle.Key, error) {
	if len(events) == 0 {
		return nil, nil, nil
	}
	items, err := log.Items(ctx, store, events)
	if err != nil {
		return nil, nil, err
	}
	digests := make(map[uuid.UUID][]byte, len(items))
	keys := make([]merkle.Key, len(items))
	for i, item := range items {
		digests[item.Key.ID] = item.Digest[:]
		keys[i] = item.Key
	}
	return digests, keys, nil
}
