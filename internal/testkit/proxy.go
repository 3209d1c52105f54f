package testkit

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy forwards TCP connections to a target and misbehaves when told to.
// Every method may be called at any time, from any goroutine; a setting holds
// for open connections too, from their next chunk on.
type Proxy struct {
	target   string
	listener net.Listener
	up, down line
	wg       sync.WaitGroup

	mu      sync.Mutex
	links   map[*link]struct{}
	open    chan struct{} // closed while bytes may pass
	latency time.Duration
	rate    int64
	cut     int64 // bytes that the next connection may carry; 0: no limit
	refuse  bool
	closed  bool
}

// line is one direction of all connections together: they share its rate.
type line struct {
	bytes atomic.Int64
	mu    sync.Mutex
	free  time.Time // when the last byte that was accepted will have left
}

// NewProxy listens on a free loopback port and forwards to target, host:port.
func NewProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for proxy: %w", err)
	}
	p := &Proxy{target: target, listener: l, links: map[*link]struct{}{}, open: make(chan struct{})}
	close(p.open)
	p.wg.Go(p.accept)
	return p, nil
}

// Addr is host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// SetLatency delays every byte by d in each direction: a round trip costs 2d.
func (p *Proxy) SetLatency(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latency = d
}

// SetRate limits each direction, all connections together; 0 is no limit.
func (p *Proxy) SetRate(bytesPerSecond int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate = int64(bytesPerSecond)
}

// CutAfter ends the next connection that is made once n bytes have passed in
// one of its directions; exactly n of them arrive. Later connections live.
func (p *Proxy) CutAfter(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = int64(n)
}

// Refuse resets new connections at once, during the dial or right after it;
// open ones go on.
func (p *Proxy) Refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = on
}

// Blackhole holds every byte back while it is on: connections are accepted
// and stay open, nothing arrives. Turned off, the bytes go on, as after a
// short outage of a line.
func (p *Proxy) Blackhole(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open:
		if on {
			p.open = make(chan struct{})
		}
	default:
		if !on {
			close(p.open)
		}
	}
}

// CloseConnections resets every open connection.
func (p *Proxy) CloseConnections() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.reset()
	}
}

// BytesUp counts what reached the target, BytesDown what came back from it.
func (p *Proxy) BytesUp() int64 { return p.up.bytes.Load() }

// BytesDown counts what reached the clients.
func (p *Proxy) BytesDown() int64 { return p.down.bytes.Load() }

// Close stops listening, resets every connection and waits for their end.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.listener.Close()
	p.CloseConnections()
	p.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		l := p.admit(conn.(*net.TCPConn))
		if l == nil {
			reset(conn.(*net.TCPConn))
			continue
		}
		p.wg.Go(func() {
			l.run()
			p.mu.Lock()
			delete(p.links, l)
			p.mu.Unlock()
		})
	}
}

// admit gives a new connection its link, or nil where it is refused.
func (p *Proxy) admit(client *net.TCPConn) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse || p.closed {
		return nil
	}
	l := &link{proxy: p, client: client, budget: p.cut, done: make(chan struct{})}
	p.cut = 0
	p.links[l] = struct{}{}
	return l
}

// conditions are those of the moment.
func (p *Proxy) conditions() (open chan struct{}, latency time.Duration, rate int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open, p.latency, p.rate
}

// reserve says how long from now the line needs to have carried n more bytes.
func (l *line) reserve(n int, rate int64) time.Duration {
	if rate <= 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	return l.free.Sub(now)
}

func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}
