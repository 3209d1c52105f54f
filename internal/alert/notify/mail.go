package notify

import (
	"bytes"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/alert"
)

// subjectAtMost keeps a subject readable, in runes.
const subjectAtMost = 200

// compose writes a message as a mail (RFC 5322): plain text, in ASCII on the wire.
// All news of an alert are one thread: the first carries an id made of the alert's,
// the others refer to it.
func compose(from, to *mail.Address, m alert.Message) []byte {
	domain := from.Address[strings.LastIndex(from.Address, "@")+1:]
	name := func(id uuid.UUID) string { return "<" + id.String() + "@" + domain + ">" }

	var b bytes.Buffer
	field := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	field("Date", m.At.UTC().Format(time.RFC1123Z))
	field("From", from.String())
	field("To", to.String())
	field("Subject", encoded(m.Subject))
	switch {
	case len(m.Items) != 1:
		field("Message-ID", name(m.ID))
	case m.Items[0].News == alert.Fired:
		field("Message-ID", name(m.Items[0].ID))
	default:
		field("Message-ID", name(m.ID))
		field("In-Reply-To", name(m.Items[0].ID))
		field("References", name(m.Items[0].ID))
	}
	field("Auto-Submitted", "auto-generated") // RFC 3834: nobody's absence notice shall answer
	field("MIME-Version", "1.0")
	field("Content-Type", "text/plain; charset=utf-8")
	field("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	text := quotedprintable.NewWriter(&b)
	_, _ = text.Write([]byte(m.Text)) // a buffer takes everything
	_ = text.Close()
	return b.Bytes()
}

// encoded makes a header's value of any text (RFC 2047): what is not printable ASCII,
// line ends among it, is encoded, in words that each have a line.
func encoded(text string) string {
	if runes := []rune(text); len(runes) > subjectAtMost {
		text = string(runes[:subjectAtMost-1]) + "…"
	}
	encoded := mime.QEncoding.Encode("utf-8", text)
	if encoded == text {
		return text
	}
	return "\r\n " + strings.ReplaceAll(encoded, "?= =?", "?=\r\n =?")
}
