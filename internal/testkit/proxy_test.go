package testkit_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/veloxpos/reconciled/internal/testkit"
)

// echo answers each connection with what it says, and ends with it.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

func proxy(t *testing.T) *testkit.Proxy {
	t.Helper()
	p, err := testkit.NewProxy(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func dial(t *testing.T, p *testkit.Proxy) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn.(*net.TCPConn)
}

// exchange says what, hangs up in good order and returns the whole answer.
func exchange(conn *net.TCPConn, what []byte) ([]byte, error) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		_, _ = conn.Write(what)
		_ = conn.CloseWrite()
	})
	return io.ReadAll(conn)
}

func TestAProxyCarriesAndCountsEveryByte(t *testing.T) {
	p := proxy(t)
	said := bytes.Repeat([]byte("velox"), 1<<16)
	got, err := exchange(dial(t, p), said)
	if err != nil || !bytes.Equal(got, said) {
		t.Fatalf("%d bytes came back of %d: %v", len(got), len(said), err)
	}
	if p.BytesUp() != int64(len(said)) || p.BytesDown() != int64(len(said)) {
		t.Errorf("counted %d up, %d down, want %d", p.BytesUp(), p.BytesDown(), len(said))
	}
}

func TestAProxyCutsTheNextConnectionAtByteN(t *testing.T) {
	for _, n := range []int{1, 10, 8 << 10, 100_001} {
		p := proxy(t)
		p.CutAfter(n)
		conn := dial(t, p)
		if _, err := conn.Write(make([]byte, 300_000)); err != nil && n > 8<<10 {
			t.Logf("write ended early: %v", err)
		}
		_, _ = io.ReadAll(conn) // until the cut
		if got := p.BytesUp(); got != int64(n) {
			t.Errorf("cut after %d bytes, want %d", got, n)
		}
		said := make([]byte, 300_000)
		if got, err := exchange(dial(t, p), said); err != nil || len(got) != len(said) {
			t.Errorf("the connection after the cut carried %d bytes: %v", len(got), err)
		}
	}
}

func TestAnAnswerIsCutAtByteN(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Write(make([]byte, 50_000))
		_, _ = io.Copy(io.Discard, conn)
	})
	defer wg.Wait()
	defer l.Close()
	p, err := testkit.NewProxy(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.CutAfter(12_345)
	got, err := io.ReadAll(dial(t, p))
	if err != nil || len(got) != 12_345 {
		t.Errorf("%d bytes arrived (%v), want 12345", len(got), err)
	}
}

func TestAProxyRefusesNewConnectionsAndLeavesOpenOnes(t *testing.T) {
	p := proxy(t)
	open := dial(t, p)
	said := []byte("before")
	if _, err := open.Write(said); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(open, said); err != nil {
		t.Fatal(err)
	}
	p.Refuse(true)
	// The reset may come before the dial returns, or take the first write.
	if conn, err := net.Dial("tcp", p.Addr()); err == nil {
		defer conn.Close()
		if got, _ := exchange(conn.(*net.TCPConn), []byte("x")); len(got) > 0 {
			t.Errorf("a new connection was answered %q", got)
		}
	}
	if got, err := exchange(open, []byte("still")); err != nil || string(got) != "still" {
		t.Errorf("the open connection answered %q, %v", got, err)
	}
	p.Refuse(false)
	if got, err := exchange(dial(t, p), []byte("again")); err != nil || string(got) != "again" {
		t.Errorf("after healing: %q, %v", got, err)
	}
}

func TestABlackholeHoldsBytesBackAndThenDeliversThem(t *testing.T) {
	p := proxy(t)
	conn := dial(t, p)
	p.Blackhole(true)
	if _, err := conn.Write([]byte("late")); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 9)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes (%v) through a black hole", n, err)
	}
	if p.BytesUp() != 0 {
		t.Errorf("%d bytes passed", p.BytesUp())
	}
	p.Blackhole(false)
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if got, err := exchange(conn, nil); err != nil || string(got) != "late" {
		t.Errorf("after healing: %q, %v", got, err)
	}
}

func TestLatencyAndRateAreNeverUndercut(t *testing.T) {
	p := proxy(t)
	p.SetLatency(20 * time.Millisecond)
	began := time.Now()
	if _, err := exchange(dial(t, p), []byte("x")); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 40*time.Millisecond {
		t.Errorf("a round trip took %v, want at least 40ms", took)
	}
	p.SetLatency(0)
	p.SetRate(1_000_000)
	began = time.Now()
	if _, err := exchange(dial(t, p), make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("100 kB at 1 MB/s took %v, want at least 100ms", took)
	}
}

func TestCloseConnectionsResetsThem(t *testing.T) {
	p := proxy(t)
	conn := dial(t, p)
	said := []byte("up")
	if _, err := conn.Write(said); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, said); err != nil {
		t.Fatal(err)
	}
	p.CloseConnections()
	if _, err := io.ReadAll(conn); err == nil {
		t.Error("the connection ended in good order, want a reset")
	}
}
