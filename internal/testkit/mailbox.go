package testkit

import (
	"fmt"
	"io"
	"log"
	"net"
	"sync"

	"github.com/emersion/go-smtp"
)

// Mailbox is a private mail relay without TLS that delivers to nobody and keeps what
// it is given.
type Mailbox struct {
	server   *smtp.Server
	listener net.Listener
	done     chan error

	mu    sync.Mutex
	mails []Mail
}

// Mail is a message as it came.
type Mail struct {
	To   string
	Text string // head and body
}

// StartMailbox listens on a free port.
func StartMailbox() (*Mailbox, error) {
	m := &Mailbox{done: make(chan error, 1)}
	m.server = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &delivery{box: m}, nil }))
	m.server.ErrorLog = log.New(io.Discard, "", 0)
	var err error
	if m.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("start mailbox: %w", err)
	}
	go func() { m.done <- m.server.Serve(m.listener) }()
	return m, nil
}

// Addr is host:port.
func (m *Mailbox) Addr() string { return m.listener.Addr().String() }

// Mails are those that came so far.
func (m *Mailbox) Mails() []Mail {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Mail{}, m.mails...)
}

// Close ends the relay.
func (m *Mailbox) Close() error {
	err := m.server.Close()
	<-m.done
	return err
}

// delivery is a session of the relay.
type delivery struct {
	box *Mailbox
	to  string
}

func (d *delivery) Mail(string, *smtp.MailOptions) error      { return nil }
func (d *delivery) Rcpt(to string, _ *smtp.RcptOptions) error { d.to = to; return nil }
func (d *delivery) Reset()                                    {}
func (d *delivery) Logout() error                             { return nil }

func (d *delivery) Data(r io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return err
	}
	d.box.mu.Lock()
	defer d.box.mu.Unlock()
	d.box.mails = append(d.box.mails, Mail{d.to, string(text)})
	return nil
}
