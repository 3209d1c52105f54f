package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"path"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/central"
	"github.com/veloxpos/reconciled/internal/postgres"
	"github.com/veloxpos/reconciled/internal/testkit"
	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/lock"
	"github.com/veloxpos/reconciled/merkle"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// twins are a store and its central, as they are in production: the protocol
// between them over HTTP.
type twins struct {
	store  *postgres.Log
	client *central.Client
	grant  lock.Grant
	meter  *meter
	url    string // of central
	fence  *postgres.Fence
	closes []func()
}

// benchToken opens the bench's store at central.
const benchToken = "bench-token-of-the-store"

// call is one call over the line: its name, the bytes of its bodies, of its heads,
// and how long it took.
type call struct {
	name     string
	up, down int64
	heads    int64
	took     time.Duration
}

// meter counts what a client sends and receives.
type meter struct {
	mu    sync.Mutex
	calls []call
}

func (m *meter) take() []call {
	m.mu.Lock()
	defer m.mu.Unlock()
	calls := m.calls
	m.calls = nil
	return calls
}

func (m *meter) RoundTrip(r *http.Request) (*http.Response, error) {
	c := call{name: path.Base(r.URL.Path), up: r.ContentLength}
	if head, err := httputil.DumpRequestOut(r, false); err == nil {
		c.heads += int64(len(head))
	}
	began := time.Now()
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if head, err := httputil.DumpResponse(response, false); err == nil {
		c.heads += int64(len(head))
	}
	response.Body = &metered{response.Body, func(n int64) {
		c.down, c.took = n, time.Since(began)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.calls = append(m.calls, c)
	}, 0}
	return response, nil
}

// metered is a body that tells its size when it is closed.
type metered struct {
	io.ReadCloser
	done func(int64)
	n    int64
}

func (b *metered) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	return n, err
}

func (b *metered) Close() error {
	b.done(b.n)
	return b.ReadCloser.Close()
}

// twins opens both sides, with a line between them that shape spoils, if not nil.
func (d *dataset) twins(ctx context.Context, shape func(*testkit.Proxy)) (_ *twins, err error) {
	if err := d.pair(ctx); err != nil {
		return nil, err
	}
	t := &twins{meter: &meter{}}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	open := func(database string) (*postgres.DB, uuid.UUID, error) {
		db, err := postgres.Open(ctx, d.server.URL("reconciled_runtime", database), postgres.Options{})
		if err != nil {
			return nil, uuid.Nil, err
		}
		t.closes = append(t.closes, db.Close)
		id, err := db.Installation(ctx)
		return db, id, err
	}
	here, installation, err := open(storeDatabase)
	if err != nil {
		return nil, err
	}
	there, theirs, err := open(centralDatabase)
	if err != nil {
		return nil, err
	}
	t.store = postgres.NewLog(here)
	server := httptest.NewServer(central.NewServer(postgres.NewLog(there), central.ServerOptions{
		Installation: theirs, Tokens: map[velox.StoreID][]string{shop: {benchToken}},
	}).Handler())
	t.closes = append(t.closes, server.Close)
	t.url = server.URL
	if shape != nil {
		proxy, err := testkit.NewProxy(server.Listener.Addr().String())
		if err != nil {
			return nil, err
		}
		t.closes = append(t.closes, func() { _ = proxy.Close() })
		shape(proxy)
		t.url = "http://" + proxy.Addr()
	}
	t.client, err = central.NewClient(central.ClientOptions{
		URL: t.url, Tokens: map[velox.StoreID]string{shop: benchToken}, Installation: installation, Transport: t.meter,
	})
	if err != nil {
		return nil, err
	}
	t.fence = postgres.NewFence(here)
	t.grant = lock.Grant{Store: shop, Run: uuid.New(), Token: uuid.NewString()}
	t.grant.Epoch, err = t.fence.Grant(ctx, lock.Request{Store: shop, Run: t.grant.Run, Owner: "bench"}, t.grant.Token, 6*time.Hour)
	if err != nil {
		return nil, err
	}
	t.closes = append(t.closes, t.release)
	if err := pin(ctx, t.store); err != nil {
		return nil, err
	}
	_, err = t.compare(ctx) // brings central's tree up to date too
	return t, err
}

func (t *twins) close() {
	for i := len(t.closes) - 1; i >= 0; i-- {
		t.closes[i]()
	}
}

// release gives the lock to others.
func (t *twins) release() {
	_ = t.fence.Release(context.Background(), t.grant) // its lease ends with the server at the latest
}

// round is a whole one, until both sides agree.
func (t *twins) round(ctx context.Context) (reconcile.Report, []call, error) {
	t.meter.take()
	report, err := reconcile.Run(ctx, t.store, t.client, t.grant, reconcile.Options{})
	if err == nil && report.Verdict == reconcile.Unknown {
		err = errors.New(report.Reason)
	}
	return report, t.meter.take(), err
}

// comparison is what finding the differences took.
type comparison struct {
	bytes    int64 // of bodies in both directions, the names of what is to be fetched among them
	heads    int64 // of HTTP's heads
	messages int
	legs     int // messages before the first that carries events; all when there is none
	differ   int // events that differ, as far as one side can tell: picks and spans count once
}

// compare finds the differences, moves nothing, and writes nothing down.
func (t *twins) compare(ctx context.Context) (c comparison, err error) {
	view, err := t.store.Pin(ctx, shop)
	if err != nil {
		return c, err
	}
	t.meter.take()
	walk := merkle.NewWalk(view.View, merkle.Salt(rand.Uint32()), merkle.Key{At: time.Now().UnixMilli()}.Slot())
	reply, _, err := t.client.Open(ctx, shop, walk.Opening())
	if err != nil {
		return c, err
	}
	same, err := walk.Hear(ctx, reply)
	if err != nil {
		return c, err
	}
	known := false
	for !same {
		diff := walk.Take()
		if !known && !diff.Empty() {
			known = true
			c.legs = 2 * len(t.meter.peek())
			if len(diff.Push) == 0 {
				c.legs++ // what is wanted has to be named first
			}
		}
		c.differ += len(diff.Push)
		for want := range diff.Pull.Messages() {
			c.bytes += int64(len(merkle.EncodeWant(want, nil)))
			c.messages++
			c.differ += len(want.Spans)
			for _, p := range want.Picks {
				c.differ += len(p.Hashes)
			}
		}
		questions := walk.Ask()
		if questions == nil {
			break
		}
		answers, err := t.client.Ask(ctx, shop, *questions)
		if err != nil {
			return c, err
		}
		if err := walk.Learn(ctx, answers); err != nil {
			return c, err
		}
	}
	for _, call := range t.meter.take() {
		c.bytes += call.up + call.down
		c.heads += call.heads
		c.messages += 2
	}
	if !known {
		c.legs = c.messages
	}
	return c, nil
}

func (m *meter) peek() []call {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls
}

// named is one of the differences.
func named(name string) difference {
	for _, d := range differences {
		if d.name == name {
			return d
		}
	}
	panic(fmt.Sprintf("no difference is called %s", name))
}
