package testkit

import (
	"io"
	"net"
	"sync"
	"time"
)

const (
	chunkSize = 8 << 10
	// inFlight bounds the chunks on their way in one direction: what a slow
	// or long line holds before its sender has to wait.
	inFlight = 64
)

// link is one proxied connection.
type link struct {
	proxy  *Proxy
	client *net.TCPConn
	budget int64 // bytes that a direction may carry; 0: no limit
	done   chan struct{}

	mu     sync.Mutex
	target *net.TCPConn // nil until dialled
	ended  bool
}

// chunk is a piece of the stream and when it was taken in; without data it is
// the stream's end, which takes as long as a byte does.
type chunk struct {
	data []byte
	at   time.Time
}

// run dials the target and forwards both ways until both are at their end.
func (l *link) run() {
	conn, err := net.DialTimeout("tcp", l.proxy.target, 5*time.Second)
	if err != nil {
		l.reset()
		return
	}
	target := conn.(*net.TCPConn)
	l.mu.Lock()
	l.target = target
	ended := l.ended
	l.mu.Unlock()
	if ended { // while dialling
		reset(target)
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.forward(l.client, target, &l.proxy.up) })
	both.Go(func() { l.forward(target, l.client, &l.proxy.down) })
	both.Wait()
	l.end((*net.TCPConn).Close)
}

// forward carries one direction; an orderly end is handed on as such.
func (l *link) forward(from, to *net.TCPConn, line *line) {
	chunks := make(chan chunk, inFlight)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(chunks)
		for {
			data := make([]byte, chunkSize)
			n, err := from.Read(data)
			if err != nil && err != io.EOF {
				l.reset()
				return
			}
			select {
			case chunks <- chunk{data[:n], time.Now()}:
			case <-l.done:
				return
			}
			if err != nil {
				return
			}
		}
	})
	defer reader.Wait()

	left := l.budget
	for c := range chunks {
		if !l.delay(c, line) {
			return
		}
		if len(c.data) == 0 {
			_ = to.CloseWrite()
			return
		}
		last := l.budget > 0 && int64(len(c.data)) >= left
		if last {
			c.data = c.data[:left]
		}
		n, err := to.Write(c.data)
		line.bytes.Add(int64(n))
		left -= int64(n)
		if err != nil || last {
			l.end((*net.TCPConn).Close)
			return
		}
	}
}

// delay waits for the chunk's turn; false says that the link has ended.
func (l *link) delay(c chunk, line *line) bool {
	for {
		open, latency, rate := l.proxy.conditions()
		select {
		case <-open:
		case <-l.done:
			return false
		}
		wait := max(time.Until(c.at.Add(latency)), line.reserve(len(c.data), rate))
		if wait <= 0 {
			return true
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-l.done:
			t.Stop()
			return false
		}
		// The line may have gone dark meanwhile.
		if again, _, _ := l.proxy.conditions(); again == open {
			return true
		}
	}
}

// reset ends both sides at once, losing what is on its way.
func (l *link) reset() {
	l.end(func(c *net.TCPConn) error { reset(c); return nil })
}

func (l *link) end(how func(*net.TCPConn) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.ended = true
	close(l.done)
	_ = how(l.client)
	if l.target != nil {
		_ = how(l.target)
	}
}
