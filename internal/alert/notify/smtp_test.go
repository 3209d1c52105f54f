package notify_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/veloxpos/reconciled/internal/alert"
	"github.com/veloxpos/reconciled/internal/alert/notify"
)

// relay is an SMTP server that keeps what it is given.
type relay struct {
	*smtp.Server
	addr string
	pool *x509.CertPool // nil: it offers no TLS

	mu     sync.Mutex
	mails  []received
	refuse *smtp.SMTPError // of what it is given
	passed int             // authentications
}

// received is a mail as it came.
type received struct {
	from, to, user string
	tls            bool
	text           string
}

func startRelay(t *testing.T, secure bool) *relay {
	t.Helper()
	r := &relay{}
	r.Server = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &session{relay: r, conn: c}, nil }))
	r.Domain = "relay.test"
	r.ErrorLog = log.New(io.Discard, "", 0)
	r.AllowInsecureAuth = true // so that a password without TLS would be seen
	if secure {
		r.TLSConfig, r.pool = certificate(t)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = listener.Addr().String()
	done := make(chan error, 1)
	go func() { done <- r.Serve(listener) }()
	t.Cleanup(func() { _ = r.Close(); <-done })
	return r
}

// certificate is a self-made one for 127.0.0.1.
func certificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pool
}

type session struct {
	relay *relay
	conn  *smtp.Conn
	mail  received
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		s.relay.mu.Lock()
		defer s.relay.mu.Unlock()
		if password != secret {
			return &smtp.SMTPError{Code: 535, Message: "wrong: " + password}
		}
		s.relay.passed++
		s.mail.user = user
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error { s.mail.from = from; return nil }
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error   { s.mail.to = to; return nil }
func (s *session) Reset()                                      {}
func (s *session) Logout() error                               { return nil }

func (s *session) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.relay.mu.Lock()
	defer s.relay.mu.Unlock()
	if s.relay.refuse != nil {
		return s.relay.refuse
	}
	_, s.mail.tls = s.conn.TLSConnectionState()
	s.mail.text = string(text)
	s.relay.mails = append(s.relay.mails, s.mail)
	return nil
}

// mailer mails by the relay.
func (r *relay) mailer(t *testing.T, change func(*notify.SMTPOptions)) *notify.SMTP {
	t.Helper()
	o := notify.SMTPOptions{
		Addr: r.addr, From: "Velox alertas <alertas@velox.test>", To: "sre@veloxpos.com", Username: "velox", Password: secret,
		TLS: &tls.Config{RootCAs: r.pool},
	}
	change(&o)
	s, err := notify.NewSMTP(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func asIs(*notify.SMTPOptions) {}

// parsed is a mail's header and its text as a person reads it.
func parsed(t *testing.T, m received) (mail.Header, string) {
	t.Helper()
	read, err := mail.ReadMessage(strings.NewReader(m.text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, m.text)
	}
	text, err := io.ReadAll(quotedprintable.NewReader(read.Body))
	if err != nil {
		t.Fatal(err)
	}
	return read.Header, strings.ReplaceAll(string(text), "\r\n", "\n")
}

func TestAMailGoesOverTLSWithThePasswordAndSaysItAll(t *testing.T) {
	r := startRelay(t, true)
	message := alert.Render(news(gap(), alert.Fired))
	if err := r.mailer(t, asIs).Send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	m := r.mails[0]
	if !m.tls || m.user != "velox" || m.from != "alertas@velox.test" || m.to != "sre@veloxpos.com" {
		t.Errorf("%+v", m)
	}
	header, text := parsed(t, m)
	subject, err := new(mime.WordDecoder).DecodeHeader(header.Get("Subject"))
	if err != nil || subject != message.Subject || !strings.Contains(subject, "Ñuñoa") {
		t.Errorf("%v: subject %q, want %q", err, subject, message.Subject)
	}
	if text != message.Text {
		t.Errorf("text\n%s\nwant\n%s", text, message.Text)
	}
	if header.Get("Auto-Submitted") != "auto-generated" || header.Get("From") != `"Velox alertas" <alertas@velox.test>` {
		t.Errorf("%v", header)
	}
	if at, err := header.Date(); err != nil || !at.Equal(message.At.Truncate(time.Second)) {
		t.Errorf("%v: date %v, want %v", err, at, message.At)
	}
	for _, line := range strings.Split(m.text, "\r\n") {
		if len(line) > 78 || strings.ContainsFunc(line, func(r rune) bool { return r > 126 }) {
			t.Errorf("%d bytes, or not ASCII: %q", len(line), line)
		}
	}
}

func TestTheNewsOfAnAlertAreOneThread(t *testing.T) {
	r := startRelay(t, true)
	s := r.mailer(t, asIs)
	a := gap()
	for _, n := range []alert.News{alert.Fired, alert.Escalated, alert.Over, alert.Over} {
		if err := s.Send(t.Context(), alert.Render(news(a, n))); err != nil {
			t.Fatal(err)
		}
	}
	root := "<" + a.ID.String() + "@velox.test>"
	ids := map[string]bool{}
	for i, m := range r.mails {
		header, _ := parsed(t, m)
		ids[header.Get("Message-ID")] = true
		if i == 0 {
			if header.Get("Message-ID") != root || header.Get("References") != "" {
				t.Errorf("the first: %v", header)
			}
		} else if header.Get("In-Reply-To") != root || header.Get("References") != root {
			t.Errorf("mail %d is not in the thread: %v", i, header)
		}
	}
	if len(ids) != 3 {
		t.Errorf("%d ids: each news has one, and one that is sent twice the same", len(ids))
	}
	if err := s.Send(t.Context(), alert.Message{Items: make([]alert.Item, 4)}); err != nil {
		t.Fatal(err)
	}
	if header, _ := parsed(t, r.mails[4]); header.Get("References") != "" || header.Get("Message-ID") == "" {
		t.Errorf("a digest is in no thread: %v", header)
	}
}

func TestWithoutTLSThereIsNoMail(t *testing.T) {
	r := startRelay(t, false)
	message := alert.Render(news(gap(), alert.Fired))
	if err := r.mailer(t, asIs).Send(t.Context(), message); err == nil || !strings.Contains(err.Error(), "STARTTLS") {
		t.Errorf("%v", err)
	}
	secure := startRelay(t, true)
	stranger := secure.mailer(t, func(o *notify.SMTPOptions) { o.TLS = nil })
	if err := stranger.Send(t.Context(), message); err == nil {
		t.Error("trusts a certificate that nobody vouches for")
	}
	if r.passed+secure.passed+len(r.mails)+len(secure.mails) != 0 {
		t.Error("the password or the mail went out")
	}
	plain := r.mailer(t, func(o *notify.SMTPOptions) { o.Plaintext, o.Username, o.Password = true, "", "" })
	if err := plain.Send(t.Context(), message); err != nil || len(r.mails) != 1 {
		t.Errorf("configured so: %v", err)
	}
	_, err := notify.NewSMTP(notify.SMTPOptions{Addr: r.addr, From: "a@b.c", To: "d@e.f", Plaintext: true, Username: "velox", Password: secret})
	if err == nil {
		t.Error("a password without TLS can be configured")
	}
}

func TestNoHeaderCanBeInjected(t *testing.T) {
	r := startRelay(t, true)
	message := alert.Render(news(gap(), alert.Fired))
	message.Subject = "gap\r\nBcc: everybody@velox.test\r\n\r\nbody\x00 " + strings.Repeat("ñ☃", 300)
	message.Text = "first\n.\nQUIT\nBcc: no header\n"
	if err := r.mailer(t, asIs).Send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	header, text := parsed(t, r.mails[0])
	if header.Get("Bcc") != "" || text != message.Text {
		t.Errorf("header %v\ntext %q", header, text)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(header.Get("Subject"))
	if err != nil || len([]rune(subject)) != 200 {
		t.Errorf("%v: subject of %d runes", err, len([]rune(subject)))
	}
	for _, address := range []string{"a@b.c\r\nRCPT TO:<x@y.z>", "nobody", "a@b.c, d@e.f"} {
		if _, err := notify.NewSMTP(notify.SMTPOptions{Addr: r.addr, From: "a@b.c", To: address}); err == nil {
			t.Errorf("%q is taken for an address", address)
		}
		if _, err := notify.NewSMTP(notify.SMTPOptions{Addr: r.addr, From: address, To: "a@b.c"}); err == nil {
			t.Errorf("%q is taken for an address", address)
		}
	}
}

func TestARelayThatDoesNotTakeAMailIsAnError(t *testing.T) {
	r := startRelay(t, true)
	s := r.mailer(t, asIs)
	for _, c := range []struct {
		answer  smtp.SMTPError
		refused bool
	}{
		{smtp.SMTPError{Code: 451, Message: "try later"}, false},
		{smtp.SMTPError{Code: 554, Message: "no such words here"}, true},
	} {
		r.mu.Lock()
		r.refuse = &c.answer
		r.mu.Unlock()
		err := s.Send(t.Context(), alert.Render(news(gap(), alert.Fired)))
		if err == nil || errors.Is(err, alert.ErrRefused) != c.refused || !strings.Contains(err.Error(), c.answer.Message) {
			t.Errorf("%v", err)
		}
	}
	wrong := r.mailer(t, func(o *notify.SMTPOptions) { o.Password = "not this one" })
	if err := wrong.Send(t.Context(), alert.Message{}); err == nil || !strings.Contains(err.Error(), "535") || strings.Contains(err.Error(), "not this one") {
		t.Errorf("%v", err)
	}
	_ = r.Close()
	if err := s.Send(t.Context(), alert.Message{}); err == nil {
		t.Error("a relay that is away took it")
	}
}

func TestARelayThatSaysNothingIsGivenUp(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	s, err := notify.NewSMTP(notify.SMTPOptions{Addr: listener.Addr().String(), From: "a@b.c", To: "d@e.f", Timeout: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), alert.Message{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Send(ctx, alert.Message{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
