package central

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle"
)

// slotRequest is the body of a slot call.
type slotRequest struct {
	Slot int64 `json:"slot"`
}

// namedAtMost bounds the items of an answer.
const namedAtMost = 1 << 16

// itemBytes is an item in the answer: its time, its id, its digest.
const itemBytes = 8 + 16 + len(merkle.Digest{})

// Slot lists the items that central has in a slot.
func (c *Client) Slot(ctx context.Context, store velox.StoreID, slot int64) ([]merkle.Item, error) {
	body, err := json.Marshal(slotRequest{slot})
	if err != nil {
		return nil, fmt.Errorf("encode slot: %w", err)
	}
	answer, err := c.post(ctx, store, "slot", mediaJSON, mediaMerkle, body, nil)
	if err != nil {
		return nil, err
	}
	if len(answer)%itemBytes != 0 {
		return nil, fmt.Errorf("slot: %w: %d bytes are no items", ErrNotCentral, len(answer))
	}
	items := make([]merkle.Item, len(answer)/itemBytes)
	for i := range items {
		b := answer[i*itemBytes:]
		items[i].Key = merkle.Key{At: int64(binary.BigEndian.Uint64(b)), ID: [16]byte(b[8:])}
		copy(items[i].Digest[:], b[24:])
		if items[i].Key.Slot() != slot {
			return nil, fmt.Errorf("slot: %w: item %x is of another slot", merkle.ErrHostile, items[i].Key.ID)
		}
	}
	return items, nil
}

func (s *Server) slot(ctx context.Context, r request) (reply, error) {
	asked, err := read(r.body, func(b []byte) (s slotRequest, err error) { return s, json.Unmarshal(b, &s) })
	if err != nil {
		return reply{}, err
	}
	items, err := s.log.SlotItems(ctx, r.store, asked.Slot)
	if err != nil {
		return reply{}, err
	}
	items = items[:min(len(items), namedAtMost)] // what is left out is not named
	body := make([]byte, 0, len(items)*itemBytes)
	for _, item := range items {
		body = binary.BigEndian.AppendUint64(body, uint64(item.Key.At))
		body = append(append(body, item.Key.ID[:]...), item.Digest[:]...)
	}
	return reply{media: mediaMerkle, body: body}, nil
}
