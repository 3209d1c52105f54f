package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/postgres/postgrestest"
	"github.com/veloxpos/reconciled/merkle"
)

// naive is the root of the tree over the events as they are read one by one, by a
// query of their own, and of declared purges, put in order here.
func naive(tb testing.TB, s *postgrestest.Site) merkle.Summary {
	tb.Helper()
	rows, err := s.DB.Pool.Query(tb.Context(), `SELECT e.event_id, reconciled.ms(e.created_at), e.store_id, e.device_id, e.seq, e.type, e.version,
			coalesce(s.said, nullif(e.delta_payload, '{}'), e.payload)::text
		FROM events e LEFT JOIN reconciled.said s ON s.event_id = e.event_id WHERE e.store_id = $1`, shop)
	if err != nil {
		tb.Fatal(err)
	}
	items, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (merkle.Item, error) {
		var key merkle.Key
		var c merkle.Content
		var said string
		err := row.Scan(&key.ID, &key.At, &c.Store, &c.Device, &c.Seq, &c.Type, &c.Version, &said)
		c.Said = []byte(said)
		return merkle.NewItem(key, c), err
	})
	if err != nil {
		tb.Fatal(err)
	}
	rows, err = s.DB.Pool.Query(tb.Context(), `SELECT event_id, created_ms, item FROM reconciled.deletion WHERE store_id = $1 AND declared`, shop)
	if err != nil {
		tb.Fatal(err)
	}
	purged, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (item merkle.Item, err error) {
		var digest []byte
		err = row.Scan(&item.Key.ID, &item.Key.At, &digest)
		item.Digest = merkle.Digest(digest)
		return item, err
	})
	if err != nil {
		tb.Fatal(err)
	}
	items = append(items, purged...)
	slices.SortFunc(items, func(a, b merkle.Item) int { return a.Key.Compare(b.Key) })
	var changes []merkle.Change
	var builder merkle.LeafBuilder
	for i, item := range items {
		builder.Add(item)
		if slot := item.Key.Slot(); i+1 == len(items) || items[i+1].Key.Slot() != slot {
			changes = append(changes, merkle.Change{Slot: slot, Leaf: builder.Leaf(slot)})
		}
	}
	return merkle.Tree{}.Apply(changes).Root()
}

// oddTime is an instant as clocks of all kinds have it, in SQL; many share a
// millisecond, and more a slot.
func oddTime(r *rand.Rand) string {
	switch r.IntN(12) {
	case 0:
		return "infinity"
	case 1:
		return "-infinity"
	case 2:
		return fmt.Sprintf("%04d-03-01 10:00:00.%06d BC", 1+r.IntN(4000), r.IntN(1e6))
	case 3:
		return fmt.Sprintf("19%02d-12-31 23:59:59.99%04d", r.IntN(100), r.IntN(1e4))
	case 4:
		return fmt.Sprintf("%d-06-01 00:00:00.%06d", 2200+r.IntN(290000), r.IntN(1e6))
	case 5, 6, 7:
		return fmt.Sprintf("2026-11-23 10:00:00.00%04d", r.IntN(3000))
	default:
		return fmt.Sprintf("2026-11-%02d %02d:%02d:00.%06d", 1+r.IntN(28), 8+r.IntN(12), r.IntN(60), r.IntN(1e6))
	}
}

func TestTheFastReaderAgreesWithANaiveOne(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			s, log := site(t)
			r := rand.New(rand.NewPCG(seed, 0))
			deltas := []string{`NULL`, `'{}'`, `payload`, `'{"delta": 1.0}'`}
			var some []uuid.UUID
			add := func(n int) {
				for range n {
					id := insertEvent(t, s.Owner, oddTime(r), fmt.Sprintf(`{"n": %d.0, "text": "%s"}`, r.IntN(10), []string{"ñ", "'", `\\`}[r.IntN(3)]))
					exec(t, s.Owner, `UPDATE events SET delta_payload = `+deltas[r.IntN(len(deltas))]+`, type = $2, seq = $3, version = $4 WHERE event_id = $1`,
						id, []string{"SaleCreated", "StockAdjusted", "a type whose name is longer than most of them are"}[r.IntN(3)], r.Int64(), r.Int32())
					if r.IntN(5) == 0 {
						exec(t, s.DB.Pool, `INSERT INTO reconciled.said (event_id, store_id, said, source) VALUES ($1, $2, '{"said": 1.50}', $2)`, id, shop)
					}
					some = append(some, id)
				}
			}
			add(150)
			if got, want := pin(t, log).Tree.Root(), naive(t, s); got != want {
				t.Errorf("a built tree says %+v, its events %+v", got, want)
			}
			for range 8 { // a few slots among many
				exec(t, s.Owner, `UPDATE events SET payload = '{"changed": 1}', delta_payload = NULL WHERE event_id = $1`, some[r.IntN(len(some))])
			}
			exec(t, s.Owner, `DELETE FROM events WHERE event_id = ANY($1)`, some[:40]) // some are declared purges: their items stay
			if got, want := pin(t, log).Tree.Root(), naive(t, s); got != want {
				t.Errorf("a changed tree says %+v, its events %+v", got, want)
			}
			exec(t, s.DB.Pool, `UPDATE reconciled.root SET digest = ''`) // and all of it anew
			if got, want := pin(t, postgres.NewLog(s.DB)).Tree.Root(), naive(t, s); got != want {
				t.Errorf("a rebuilt tree says %+v, its events %+v", got, want)
			}
		})
	}
}

func TestABuildOfManySlotsTakesFewTransactions(t *testing.T) {
	s, log := site(t)
	exec(t, s.Owner, `INSERT INTO events (event_id, store_id, device_id, seq, type, version, created_at, payload)
		SELECT gen_random_uuid(), $1, gen_random_uuid(), i, 'StockAdjusted', 1, '2026-01-01'::timestamptz + i * interval '1 hour', '{}'
		FROM generate_series(1, 3000) i`, shop)
	p := pin(t, log)
	wantTrueRoot(t, s, p)
	if p.Version > 4 {
		t.Errorf("3000 slots of one event took %d transactions", p.Version)
	}
}
