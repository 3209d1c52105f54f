// Package central is the federation protocol between a store and central: the
// client that a store's rounds talk through, with retries and a circuit breaker,
// and the server that answers for many stores, each by its own token.
//
// Every call is one POST under /federation/v1/stores/{store}/ and is idempotent:
//
//	check    JSON        → JSON          roots, the agreed exceptions left out
//	compare  questions   → answers       merkle messages, binary
//	pull     JSON spans  → a page        zstd NDJSON, one event a line
//	push     a page      → JSON          an outcome for each event
//
// and GET /federation/v1/stores/{store}/ready says whether central could answer.
package central

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/merkle"
)

// Media types of the protocol's bodies.
const (
	mediaJSON   = "application/json"
	mediaMerkle = "application/vnd.reconciled.merkle"
	mediaPage   = "application/vnd.reconciled.page+zstd"
)

// Headers of the protocol.
const (
	headerInstallation = "Reconciled-Installation" // who sends
	headerMore         = "Reconciled-More"         // "true": the page is not the last
)

// Limits of bodies in bytes, after decompression.
const (
	maxJSON = 4 << 20
	maxPage = 64 << 20
)

var (
	// ErrUnauthorized: the token is missing, or not this store's.
	ErrUnauthorized = errors.New("central refuses this store's token")
	// ErrNotCentral: what answered does not speak the protocol.
	ErrNotCentral = errors.New("not a reconciled central")
	// ErrUnreachable: no answer in time, or a refused connection.
	ErrUnreachable = errors.New("central is unreachable")
	// ErrBreakerOpen: central failed repeatedly and is left alone for a while.
	ErrBreakerOpen = errors.New("circuit breaker is open")
)

// pullRequest is the body of a pull. Keys are hex: 8 bytes of time, 16 of id.
type pullRequest struct {
	Spans [][2]string `json:"spans"`
	After string      `json:"after,omitempty"`
}

const maxSpans = 256

// problem is the body of every error.
type problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Field   string `json:"field,omitempty"`
}

func encodeKey(k merkle.Key) string { return fmt.Sprintf("%016x%x", uint64(k.At), k.ID) }

func decodeKey(s string) (k merkle.Key, err error) {
	var b [24]byte
	if len(s) != hex.EncodedLen(len(b)) {
		return k, fmt.Errorf("key %.60q is not 48 hex digits", s)
	}
	if _, err := hex.Decode(b[:], []byte(s)); err != nil {
		return k, fmt.Errorf("key %.60q is not 48 hex digits", s)
	}
	for _, octet := range b[:8] {
		k.At = k.At<<8 | int64(octet)
	}
	k.ID = uuid.UUID(b[8:])
	return k, nil
}

func encodeSpans(spans []merkle.Span, after *merkle.Key) pullRequest {
	request := pullRequest{Spans: make([][2]string, len(spans))}
	for i, s := range spans {
		request.Spans[i] = [2]string{encodeKey(s.From), encodeKey(s.To)}
	}
	if after != nil {
		request.After = encodeKey(*after)
	}
	return request
}

func (r pullRequest) decode() (spans []merkle.Span, after *merkle.Key, err error) {
	if len(r.Spans) > maxSpans {
		return nil, nil, fmt.Errorf("spans: %d of them, at most %d are allowed", len(r.Spans), maxSpans)
	}
	for i, pair := range r.Spans {
		var s merkle.Span
		if s.From, err = decodeKey(pair[0]); err == nil {
			s.To, err = decodeKey(pair[1])
		}
		if err != nil {
			return nil, nil, fmt.Errorf("spans[%d]: %w", i, err)
		}
		if i > 0 && s.From.Compare(spans[i-1].To) <= 0 {
			return nil, nil, fmt.Errorf("spans[%d]: begins before the one before it ends", i)
		}
		spans = append(spans, s)
	}
	if r.After != "" {
		k, err := decodeKey(r.After)
		if err != nil {
			return nil, nil, fmt.Errorf("after: %w", err)
		}
		after = &k
	}
	return spans, after, nil
}
