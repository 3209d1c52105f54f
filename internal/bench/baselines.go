package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/veloxpos/reconciled/merkle"
)

// cost is what a comparison took: bytes on the line in both directions, messages,
// time, and the CPU of both Postgres servers and of this process.
type cost struct {
	bytes, messages  int64
	wall             time.Duration
	servers, process time.Duration
	found            int // events that differ
}

// send counts a message with the head that HTTP gives it.
func (c *cost) send(bytes int) {
	const head = 150
	c.bytes += int64(bytes + head)
	c.messages++
}

// baselines are comparisons as others make them.
var baselines = []struct {
	name    string
	compare func(ctx context.Context, store, central *pgx.Conn, c *cost) error
}{
	{"list", compareLists},
	{"buckets", compareBuckets},
}

// measureBaselines compares store and central by each baseline and by a walk, for
// a hundred random differences, and says how many times dearer a baseline is.
func measureBaselines(ctx context.Context, d *dataset, f *figures) (err error) {
	t, err := d.twins(ctx, nil)
	if err != nil {
		return err
	}
	defer t.close()
	mend, err := d.apply(ctx, named("random100"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mend(ctx)) }()
	var ours []cost
	for range 5 {
		c, err := d.compare(ctx, func(ctx context.Context, _, _ *pgx.Conn, c *cost) error {
			found, err := t.compare(ctx)
			c.bytes, c.messages = found.bytes+found.heads, int64(found.messages)
			return err
		})
		if err != nil {
			return err
		}
		ours = append(ours, c)
	}
	for _, baseline := range baselines {
		c, err := d.compare(ctx, baseline.compare)
		if err != nil {
			return fmt.Errorf("%s: %w", baseline.name, err)
		}
		if c.found != 100 {
			return fmt.Errorf("%s found %d differences, want 100", baseline.name, c.found)
		}
		ratio := func(of func(cost) float64) float64 {
			var mine []float64
			for _, o := range ours {
				mine = append(mine, of(o))
			}
			return of(c) / median(mine)
		}
		name := "merkle.vs_" + baseline.name
		f.add(name+".bytes_ratio", ratio(func(c cost) float64 { return float64(c.bytes) }), "x")
		f.add(name+".wall_ratio", ratio(func(c cost) float64 { return c.wall.Seconds() }), "x")
		f.add(name+".cpu_ratio", ratio(func(c cost) float64 { return (c.servers + c.process).Seconds() }), "x")
	}
	return nil
}

// compare runs a comparison over fresh connections and reads what it took.
func (d *dataset) compare(ctx context.Context, work func(ctx context.Context, store, central *pgx.Conn, c *cost) error) (c cost, err error) {
	sides := map[string]*pgx.Conn{storeDatabase: nil, centralDatabase: nil}
	for database := range sides {
		if sides[database], err = pgx.Connect(ctx, d.server.URL("postgres", database)); err != nil {
			return c, err
		}
		defer sides[database].Close(context.WithoutCancel(ctx))
	}
	before, err := serverCPU(sides[storeDatabase].PgConn().PID())
	if err != nil {
		return c, err
	}
	c.wall, c.process, err = timed(func() error { return work(ctx, sides[storeDatabase], sides[centralDatabase], &c) })
	if err != nil {
		return c, err
	}
	after, err := serverCPU(sides[storeDatabase].PgConn().PID())
	c.servers = after - before
	return c, err
}

// entry is an event in a list: its id and digest, 48 bytes on the line.
const entryBytes = 16 + 32

// compareLists: the store sends the ids and digests of all it has, central answers
// with those that differ.
func compareLists(ctx context.Context, store, central *pgx.Conn, c *cost) error {
	var here, there map[[16]byte]merkle.Digest
	both, bothCtx := errgroup.WithContext(ctx)
	both.Go(func() (err error) { here, err = list(bothCtx, store); return err })
	both.Go(func() (err error) { there, err = list(bothCtx, central); return err })
	if err := both.Wait(); err != nil {
		return err
	}
	c.send(len(here) * entryBytes)
	c.found = differing(here, there)
	c.send(c.found * 16)
	return nil
}

func differing[D comparable](here, there map[[16]byte]D) (n int) {
	for id, digest := range here {
		if there[id] != digest {
			n++
		}
	}
	for id := range there {
		if _, ok := here[id]; !ok {
			n++
		}
	}
	return n
}

// list digests every event as the tree does.
func list(ctx context.Context, conn *pgx.Conn) (map[[16]byte]merkle.Digest, error) {
	rows, err := conn.Query(ctx, `SELECT event_id, created_at, device_id, seq, type, version, coalesce(nullif(delta_payload, '{}'), payload)
		FROM public.events WHERE store_id = $1`, pgx.QueryResultFormats{pgx.BinaryFormatCode}, shop)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[[16]byte]merkle.Digest{}
	for rows.Next() {
		v := rows.RawValues()
		key := merkle.Key{ID: [16]byte(v[0]), At: int64(binary.BigEndian.Uint64(v[1]))}
		all[key.ID] = merkle.NewItem(key, merkle.Content{
			Store: shop, Device: [16]byte(v[2]), Seq: int64(binary.BigEndian.Uint64(v[3])), Type: string(v[4]),
			Version: int32(binary.BigEndian.Uint32(v[5])), Said: v[6][1:],
		}).Digest
	}
	return all, rows.Err()
}

// Buckets are cut by the id's first bits, as tools that compare tables cut them by
// primary key; a bucket of more events than are worth a list is cut again.
const (
	firstBits  = 12 // 4096 buckets
	nextBits   = 4
	listAtMost = 1000
)

// bucket is all ids that begin with some bits.
type bucket struct {
	prefix uint32 // of the id's first four bytes
	bits   int
}

// bounds are the first and the last id in it.
func (b bucket) bounds() (first, last uuid.UUID) {
	binary.BigEndian.PutUint32(first[:], b.prefix)
	copy(last[:], bytes.Repeat([]byte{0xff}, 16))
	binary.BigEndian.PutUint32(last[:], b.prefix|(1<<(32-b.bits)-1))
	return first, last
}

// sum of a bucket: 2 bytes for its name, 4 for the count, 8 for the digest.
type sum struct {
	count  int64
	digest string
}

const sumBytes = 2 + 4 + 8

// compareBuckets: both servers count and digest their buckets in SQL; those that
// differ are cut again, and small ones listed.
func compareBuckets(ctx context.Context, store, central *pgx.Conn, c *cost) error {
	todo := []bucket{{}}
	for bits := firstBits; len(todo) > 0; bits = nextBits {
		var lists, cut []bucket
		for _, b := range todo {
			here, there, err := onBoth(ctx, store, central, func(ctx context.Context, conn *pgx.Conn) (map[uint32]sum, error) { return sums(ctx, conn, b, bits) })
			if err != nil {
				return err
			}
			c.bytes += int64(len(here) * sumBytes)
			for prefix := range 1 << bits {
				under := bucket{b.prefix | uint32(prefix)<<(32-b.bits-bits), b.bits + bits}
				switch mine, theirs := here[under.prefix], there[under.prefix]; {
				case mine == theirs:
				case max(mine.count, theirs.count) > listAtMost && under.bits+nextBits <= 32:
					cut = append(cut, under)
				default:
					lists = append(lists, under)
				}
			}
		}
		c.send(0)
		c.send((len(lists) + len(cut)) * 2)
		if err := compareListed(ctx, store, central, lists, c); err != nil {
			return err
		}
		todo = cut
	}
	return nil
}

// compareListed: the store lists the ids and short digests of buckets, central
// answers with those that differ.
func compareListed(ctx context.Context, store, central *pgx.Conn, buckets []bucket, c *cost) error {
	if len(buckets) == 0 {
		return nil
	}
	here, there, err := onBoth(ctx, store, central, func(ctx context.Context, conn *pgx.Conn) (map[[16]byte]int64, error) {
		return listBuckets(ctx, conn, buckets)
	})
	if err != nil {
		return err
	}
	n := differing(here, there)
	c.send(len(here) * (16 + 8))
	c.send(n * 16)
	c.found += n
	return nil
}

func onBoth[T any](ctx context.Context, store, central *pgx.Conn, read func(context.Context, *pgx.Conn) (T, error)) (here, there T, err error) {
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() (err error) { here, err = read(ctx, store); return err })
	both.Go(func() (err error) { there, err = read(ctx, central); return err })
	return here, there, both.Wait()
}

// rowDigest is a row's digest in SQL, 64 bits of an md5: what is cheapest there.
const rowDigest = `('x' || substr(md5(e.event_id::text || e.created_at || e.device_id || e.seq || e.type || e.version ||
	coalesce(nullif(e.delta_payload, '{}'), e.payload)::text), 1, 16))::bit(64)::bigint`

// sums counts and digests the parts of a bucket.
func sums(ctx context.Context, conn *pgx.Conn, b bucket, bits int) (map[uint32]sum, error) {
	first, last := b.bounds()
	rows, err := conn.Query(ctx, `SELECT (('x' || substr(e.event_id::text, 1, 8))::bit(32) & (~((1::bigint << $4::int) - 1))::bit(32))::bit(32)::bigint AS part,
			count(*), sum(`+rowDigest+`)::text
		FROM public.events e WHERE e.store_id = $1 AND e.event_id BETWEEN $2 AND $3 GROUP BY 1`, shop, first, last, 32-b.bits-bits)
	if err != nil {
		return nil, err
	}
	parts := map[uint32]sum{}
	var (
		part int64
		s    sum
	)
	_, err = pgx.ForEachRow(rows, []any{&part, &s.count, &s.digest}, func() error {
		parts[uint32(part)] = s
		return nil
	})
	return parts, err
}

func listBuckets(ctx context.Context, conn *pgx.Conn, buckets []bucket) (map[[16]byte]int64, error) {
	first, last := make([]uuid.UUID, len(buckets)), make([]uuid.UUID, len(buckets))
	for i, b := range buckets {
		first[i], last[i] = b.bounds()
	}
	rows, err := conn.Query(ctx, `SELECT e.event_id, `+rowDigest+` FROM unnest($2::uuid[], $3::uuid[]) AS bucket (first, last)
		JOIN public.events e ON e.store_id = $1 AND e.event_id BETWEEN bucket.first AND bucket.last`, shop, first, last)
	if err != nil {
		return nil, err
	}
	entries := map[[16]byte]int64{}
	var (
		id     [16]byte
		digest int64
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &digest}, func() error {
		entries[id] = digest
		return nil
	})
	return entries, err
}
