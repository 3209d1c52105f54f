package merkle

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MessageVersion is the first byte of every message. A peer that speaks another
// is told so before anything is compared.
const MessageVersion = 1

// MaxMessage bounds a message in bytes, in both directions.
const MaxMessage = 8 << 20

var (
	// ErrMessage: the bytes are not a message of this version.
	ErrMessage = errors.New("malformed message")
	// ErrVersion: the peer speaks another version.
	ErrVersion = errors.New("message version")
)

// A message: version, digest version, kind, then a count and that many parts.
// Counts are uvarints; a summary is its range (nibbles, and as many whole bytes
// of prefix), its count, its digest. Bytes after the end are an error.
const (
	kindQuestions byte = 1
	kindAnswers   byte = 2

	answerSame  byte = 0
	answerParts byte = 1
)

// EncodeQuestions is the message that asks.
func EncodeQuestions(questions []Question) []byte {
	b := binary.AppendUvarint(header(kindQuestions), uint64(len(questions)))
	for _, q := range questions {
		b = appendSummary(b, q)
	}
	return b
}

// EncodeAnswers is the message that answers.
func EncodeAnswers(answers []Answer) []byte {
	b := binary.AppendUvarint(header(kindAnswers), uint64(len(answers)))
	for _, a := range answers {
		if a.Same {
			b = append(b, answerSame)
			continue
		}
		b = binary.AppendUvarint(append(b, answerParts), uint64(len(a.Parts)))
		for _, p := range a.Parts {
			b = appendSummary(b, p)
		}
	}
	return b
}

func header(kind byte) []byte { return []byte{MessageVersion, DigestVersion, kind} }

func appendSummary(b []byte, s Summary) []byte {
	b = append(b, s.Range.Nibbles)
	b = append(b, s.Range.Prefix[:(s.Range.Nibbles+1)/2]...)
	b = binary.AppendUvarint(b, s.Count)
	return append(b, s.Digest[:]...)
}

// DecodeQuestions reads a message that asks.
func DecodeQuestions(message []byte) ([]Question, error) {
	r, err := open(message, kindQuestions)
	if err != nil {
		return nil, err
	}
	questions := make([]Question, 0, r.length(maxQuestions))
	for range cap(questions) {
		questions = append(questions, r.summary())
	}
	return questions, r.close()
}

// DecodeAnswers reads a message that answers.
func DecodeAnswers(message []byte) ([]Answer, error) {
	r, err := open(message, kindAnswers)
	if err != nil {
		return nil, err
	}
	answers := make([]Answer, r.length(maxQuestions))
	for i := range answers {
		switch r.byte() {
		case answerSame:
			answers[i].Same = true
		case answerParts:
			for range r.length(maxEntries) {
				answers[i].Parts = append(answers[i].Parts, r.summary())
			}
		default:
			r.fail("unknown answer")
		}
		if r.err != nil {
			return nil, r.err
		}
	}
	return answers, r.close()
}

// reader decodes; the first failure sticks and everything after it reads zero.
type reader struct {
	rest []byte
	err  error
}

func open(message []byte, kind byte) (*reader, error) {
	r := &reader{rest: message}
	if len(message) > MaxMessage {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrMessage, len(message), MaxMessage)
	}
	version, digests, got := r.byte(), r.byte(), r.byte()
	switch {
	case r.err != nil:
		return nil, r.err
	case version != MessageVersion || digests != DigestVersion:
		return nil, fmt.Errorf("%w %d.%d, this side speaks %d.%d", ErrVersion, version, digests, MessageVersion, DigestVersion)
	case got != kind:
		return nil, fmt.Errorf("%w: kind %d, want %d", ErrMessage, got, kind)
	}
	return r, nil
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s, %d bytes before its end", ErrMessage, what, len(r.rest))
	}
	r.rest = nil
}

func (r *reader) take(n int) []byte {
	if len(r.rest) < n {
		r.fail("cut short")
		return make([]byte, n)
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte { return r.take(1)[0] }

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail("bad number")
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// length reads how many parts follow; more than the limit, or than there are
// bytes for, is refused before anything is allocated for them.
func (r *reader) length(limit uint64) int {
	n := r.uvarint()
	if n > limit || n > uint64(len(r.rest)) {
		r.fail("too many parts")
		return 0
	}
	return int(n)
}

func (r *reader) summary() (s Summary) {
	s.Range.Nibbles = r.byte()
	if s.Range.Nibbles > keyNibbles {
		r.fail("range longer than a key")
		return Summary{}
	}
	copy(s.Range.Prefix[:], r.take(int(s.Range.Nibbles+1)/2))
	if n := s.Range.Nibbles; n%2 == 1 && s.Range.Prefix[n/2]&0x0f != 0 {
		r.fail("prefix longer than its range")
	}
	s.Count = r.uvarint()
	copy(s.Digest[:], r.take(len(s.Digest)))
	return s
}

func (r *reader) close() error {
	if r.err == nil && len(r.rest) > 0 {
		r.fail("bytes after its end")
	}
	return r.err
}
