package fleet

import (
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
)

// Options of a Shop. Only Store and Start have no default.
type Options struct {
	Seed  uint64
	Store velox.StoreID
	Start time.Time // the shop opens, and trades for 12 hours of each 24

	Name     string        // "Bodega La Esquina"
	Devices  int           // tills; 3
	Products int           // that it comes to sell; 60
	Pace     time.Duration // mean time between two things that happen; 40 s

	// ClockSkew is how far a till's clock may be off, either way. DeadClock sets
	// the last till's clock to 1970.
	ClockSkew time.Duration
	DeadClock bool
	// Conflicts adds events that last write wins overwrote, with a delta that
	// keeps what was said and without.
	Conflicts bool
	// Rarities makes common what is rare: changes of the catalogue and of
	// customers, recipes, quotas, cash in and out.
	Rarities bool
}

// Shop is a store that trades. Equal options yield equal events. Its stock stays
// positive: what it sells it has received before. Not safe for concurrent use.
type Shop struct {
	opts Options
	rng  *rand.Rand
	ref  Reference

	now, closes time.Time
	open        bool
	rate        int64 // Bs a USD, in hundredths
	tills       []*till
	queue       []velox.Event

	products  []*product
	customers []customer
	stock     map[shelf]int64 // thousandths
	sales     []soldSale      // recent ones, that may yet be voided
	debts     []openDebt
	quotas    []*quota
	retired   int // products that are not sold any more
	fiscal    int64
	barcodes  int64 // of changed products
}

// till is a device with a clock and counters of its own.
type till struct {
	id      uuid.UUID
	skew    time.Duration
	dead    bool
	seq     int64
	clock   int64 // its vector clock counter, apart from seq
	session uuid.UUID
	actor   uuid.UUID
	cashBS  int64
	cashUSD int64
	sold    map[ware]int64 // today
}

// shelf is where stock lies.
type shelf struct{ warehouse, product, variant uuid.UUID }

// NewShop returns a shop before its first day.
func NewShop(o Options) *Shop {
	if o.Name == "" {
		o.Name = "Bodega La Esquina"
	}
	if o.Devices <= 0 {
		o.Devices = 3
	}
	if o.Products <= 0 {
		o.Products = 60
	}
	if o.Pace <= 0 {
		o.Pace = 40 * time.Second
	}
	o.Start = o.Start.UTC().Truncate(time.Millisecond)
	s := &Shop{
		opts: o,
		rng: rand.New(rand.NewPCG(o.Seed,
			binary.BigEndian.Uint64(o.Store[:8])^binary.BigEndian.Uint64(o.Store[8:]))),
		now:   o.Start,
		rate:  4000,
		stock: map[shelf]int64{},
	}
	s.ref = s.newReference()
	for i := range o.Devices {
		t := &till{id: s.id(), actor: s.ref.Profiles[i%len(s.ref.Profiles)]}
		if o.ClockSkew > 0 && i > 0 {
			t.skew = time.Duration(s.rng.Int64N(2*int64(o.ClockSkew))) - o.ClockSkew
		}
		t.dead = o.DeadClock && i == o.Devices-1
		s.tills = append(s.tills, t)
	}
	for _, p := range s.ref.Products {
		s.products = append(s.products, &product{id: p.ID, variants: p.Variants, usd: 1200, threshold: 5, quoted: true})
	}
	return s
}

// Store is the shop's id.
func (s *Shop) Store() velox.StoreID { return s.opts.Store }

// Now is the true time in the shop, which its tills' clocks need not agree with.
func (s *Shop) Now() time.Time { return s.now }

// Trade goes on trading until n events have happened.
func (s *Shop) Trade(n int) []velox.Event {
	events := make([]velox.Event, n)
	for i := range events {
		events[i] = s.Next()
	}
	return events
}

// Next is the next event, in true order: none comes before what it depends on.
func (s *Shop) Next() velox.Event {
	for len(s.queue) == 0 {
		s.act()
	}
	e := s.queue[0]
	s.queue = s.queue[1:]
	return e
}

const initialProducts = 6

// act makes one thing happen, which may be several events.
func (s *Shop) act() {
	if !s.open {
		s.openDay()
		for s.born() < min(initialProducts, s.opts.Products) {
			s.createProduct()
		}
		if len(s.customers) == 0 {
			for range 3 {
				s.createCustomer()
			}
			s.stockVariants()
		}
		return
	}
	if s.now.After(s.closes) {
		s.closeDay()
		return
	}
	s.pass(time.Duration(s.rng.Int64N(2 * int64(s.opts.Pace))))
	switch p := s.rng.IntN(1000); {
	case p < 30 && s.born() < s.opts.Products:
		s.createProduct()
	case p < 55:
		s.createCustomer()
	case p < 85:
		s.receive()
	case p < 105:
		s.adjust()
	case p < 135:
		s.applyDelta()
	case p < 145:
		s.oldDebt()
	case p < 195:
		s.pay()
	case p < 210:
		s.void()
	case p < 220 && s.opts.Conflicts:
		s.conflict()
	case p < 250 || p < 320 && s.opts.Rarities:
		s.rare()
	case p >= 975:
		s.sellOnline()
	default:
		s.sell()
	}
}

// pass lets time go by.
func (s *Shop) pass(d time.Duration) { s.now = s.now.Add(d.Truncate(time.Millisecond)) }

func (s *Shop) anyTill() *till { return s.tills[s.rng.IntN(len(s.tills))] }

// chance is true one time in n.
func (s *Shop) chance(n int) bool { return s.rng.IntN(n) == 0 }

// between is a number from low to high, both included.
func (s *Shop) between(low, high int64) int64 { return low + s.rng.Int64N(high-low+1) }

func pick[T any](s *Shop, from []T) T { return from[s.rng.IntN(len(from))] }

// id is a random (version 4) UUID of the shop's own randomness.
func (s *Shop) id() uuid.UUID {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], s.rng.Uint64())
	binary.BigEndian.PutUint64(id[8:], s.rng.Uint64())
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}
