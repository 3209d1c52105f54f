package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"os"
	"time"

	"github.com/veloxpos/reconciled/internal/alert"
)

// SMTPOptions of an SMTP.
type SMTPOptions struct {
	Addr     string // host:port of the relay
	From, To string // an address each, with or without a name
	// Username and Password for AUTH PLAIN; none without a name.
	Username, Password string
	// Plaintext goes without TLS, to a relay on this machine. It excludes a password.
	Plaintext bool
	TLS       *tls.Config // nil: the relay's certificate is checked against the system's roots
	Timeout   time.Duration
}

// SMTP mails messages to one address: over TLS by STARTTLS, or not at all, unless
// Plaintext is set.
type SMTP struct {
	opts     SMTPOptions
	host     string // of the relay
	from, to *mail.Address
}

// NewSMTP checks its options and makes no connection.
func NewSMTP(o SMTPOptions) (*SMTP, error) {
	host, _, err := net.SplitHostPort(o.Addr)
	if err != nil || host == "" {
		return nil, fmt.Errorf("smtp: %q is not host:port", o.Addr)
	}
	from, err := mail.ParseAddress(o.From)
	if err != nil {
		return nil, fmt.Errorf("smtp: from %q is not a mail address", o.From)
	}
	to, err := mail.ParseAddress(o.To)
	if err != nil {
		return nil, fmt.Errorf("smtp: to %q is not a mail address", o.To)
	}
	if o.Plaintext && o.Username != "" {
		return nil, errors.New("smtp: a password is not sent without TLS")
	}
	o.Timeout = orDefault(o.Timeout, timeout)
	return &SMTP{opts: o, host: host, from: from, to: to}, nil
}

// Send mails the message. It is taken once the relay has answered for its text.
func (s *SMTP) Send(ctx context.Context, message alert.Message) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	err := s.send(ctx, message)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("smtp: mail by %s: %w", s.host, err)
	}
	return nil
}

func (s *SMTP) send(ctx context.Context, message alert.Message) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.opts.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	// net/smtp knows no context: what waits on the connection ends with it.
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	client, err := smtp.NewClient(conn, s.host)
	if err != nil {
		return fmt.Errorf("greet: %w", err)
	}
	if err := s.begin(client); err != nil {
		return err
	}
	if err := client.Mail(s.from.Address); err != nil {
		return fmt.Errorf("name sender: %w", err)
	}
	if err := client.Rcpt(s.to.Address); err != nil {
		return fmt.Errorf("name recipient: %w", err)
	}
	text, err := client.Data()
	if err != nil {
		return fmt.Errorf("begin text: %w", err)
	}
	if _, err := text.Write(compose(s.from, s.to, message)); err != nil {
		return fmt.Errorf("send text: %w", err)
	}
	if err := text.Close(); err != nil {
		if answer := new(textproto.Error); errors.As(err, &answer) && answer.Code/100 == 5 {
			return fmt.Errorf("%w: %w", alert.ErrRefused, err)
		}
		return fmt.Errorf("end text: %w", err)
	}
	_ = client.Quit() // the message is taken, whatever comes now
	return nil
}

// begin secures the connection and says who is there.
func (s *SMTP) begin(client *smtp.Client) error {
	name, err := os.Hostname()
	if err != nil {
		name = "localhost"
	}
	if err := client.Hello(name); err != nil {
		return fmt.Errorf("greet: %w", err)
	}
	if s.opts.Plaintext {
		return nil
	}
	config := &tls.Config{}
	if s.opts.TLS != nil {
		config = s.opts.TLS.Clone()
	}
	if config.ServerName == "" {
		config.ServerName = s.host
	}
	if offered, _ := client.Extension("STARTTLS"); !offered {
		return errors.New("it offers no STARTTLS")
	}
	if err := client.StartTLS(config); err != nil {
		return fmt.Errorf("start TLS: %w", err)
	}
	if s.opts.Username == "" {
		return nil
	}
	if err := client.Auth(smtp.PlainAuth("", s.opts.Username, s.opts.Password, s.host)); err != nil {
		if answer := new(textproto.Error); errors.As(err, &answer) {
			return fmt.Errorf("authenticate: it answered %d", answer.Code) // its words may repeat ours
		}
		return fmt.Errorf("authenticate: %w", err)
	}
	return nil
}
