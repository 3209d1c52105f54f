package fleet

import (
	"encoding/json"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

// conflict lets two tills speak of one thing at once. The one whose clock shows
// less loses: the backend stores it with the winner's payload.
func (s *Shop) conflict() {
	if len(s.tills) < 2 {
		s.receive()
		return
	}
	loser, winner := s.tills[0], s.tills[1]
	if s.chance(2) && len(s.debts) > 0 {
		i := s.rng.IntN(len(s.debts))
		usd := s.debts[i].leftUSD / 4
		if usd == 0 {
			s.receive()
			return
		}
		s.payDebt(loser, s.debts[i], usd)
		s.payDebt(winner, s.debts[i], usd)
		s.debts[i].leftUSD -= 2 * usd
		s.settleLastTwo()
		return
	}
	p, variant := s.stocked()
	if s.chance(2) {
		s.receiveProduct(loser, p, variant, s.ref.Warehouses[0])
	} else { // has no delta: what it said is gone from this node
		s.ring(loser, velox.StockDeltaApplied, object{
			"movement_id": s.id().String(), "product_id": p.id.String(), "qty_delta": s.amount(3000, 3),
			"reason": "received", "request_id": s.id().String(), "warehouse_id": "", "variant_id": variantText(variant),
		})
	}
	s.receiveProduct(winner, p, variant, s.ref.Warehouses[0])
	s.settleLastTwo()
}

// settleLastTwo lets the later of the last two events queued, by their clocks,
// win over the other.
func (s *Shop) settleLastTwo() {
	loser, winner := &s.queue[len(s.queue)-2], &s.queue[len(s.queue)-1]
	if loser.CreatedAt > winner.CreatedAt ||
		loser.CreatedAt == winner.CreatedAt && loser.Device.String() > winner.Device.String() {
		loser, winner = winner, loser
	}
	*loser = Overwritten(*loser, *winner)
	if s.chance(2) { // it came second, found the other there, and won
		winner.ConflictStatus = velox.AutoResolved
	}
}

func variantText(variant uuid.UUID) any {
	if variant == uuid.Nil {
		return nil
	}
	return variant.String()
}

// member reads a string member of a payload; "" when there is none.
func member(content json.RawMessage, name string) string {
	var members map[string]json.RawMessage
	var text string
	if json.Unmarshal(content, &members) == nil {
		_ = json.Unmarshal(members[name], &text) // another type is as good as none
	}
	return text
}
