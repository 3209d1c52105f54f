// Package central is the federation protocol between a store and central: the
// client that a store's rounds talk through, with retries and a circuit breaker,
// and the server that answers for many stores, each by its own token.
//
// Every call is one POST under /federation/v1/stores/{store}/ and is idempotent:
//
//	open     opening     → reply         merkle messages, binary
//	ask      questions   → answers
//	pull     a want      → a page        zstd NDJSON, one event a line
//	push     a page      → JSON          an outcome for each event
//	weigh    a want      → JSON          how much it is, moving nothing
//	verify   JSON        → JSON          digests of slots, taken anew
//	slot     JSON        → items         each its time, id and digest
//
// and GET /federation/v1/stores/{store}/ready says whether central could answer.
package central

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

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
	headerNext         = "Reconciled-Next"         // the page is not the last: the next goes on behind this key, in hex
)

// Limits of bodies in bytes, after decompression.
const (
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
	// ErrOtherVersion: central speaks an older or a newer version of the protocol.
	ErrOtherVersion = errors.New("central speaks another version of the protocol")
)

// codeVersion is the problem of a message in another version.
const codeVersion = "MESSAGE_VERSION"

// Codes of an UnavailableError.
const (
	CodePaused    = "PAUSED"    // a person has stopped all writing for a while
	CodeObserving = "OBSERVING" // central is configured to write nothing
)

// UnavailableError: central is well, and takes no events for now. It answers 503.
type UnavailableError struct {
	Code       string
	Reason     string // for the store's operators
	RetryAfter time.Duration
}

func (e *UnavailableError) Error() string { return e.Reason }

// problem is the body of every error.
type problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Field   string `json:"field,omitempty"`
}

func encodeKey(k merkle.Key) string { return fmt.Sprintf("%016x%x", uint64(k.At), k.ID) }

func decodeKey(s string) (k merkle.Key, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 8+len(k.ID) {
		return k, fmt.Errorf("key %.60q is not 48 hex digits", s)
	}
	k.At = int64(binary.BigEndian.Uint64(b))
	copy(k.ID[:], b[8:])
	return k, nil
}
