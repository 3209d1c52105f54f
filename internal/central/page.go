package central

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// line is an event on the wire. Said and the vector clock are strings, since
// they are jsonb's own text and must arrive byte for byte.
type line struct {
	ID             uuid.UUID     `json:"event_id"`
	Store          uuid.UUID     `json:"store_id"`
	Device         uuid.UUID     `json:"device_id"`
	Seq            int64         `json:"seq"`
	Type           velox.Type    `json:"type"`
	Version        int32         `json:"version"`
	CreatedAt      velox.Millis  `json:"created_at"`
	Actor          uuid.NullUUID `json:"actor_user_id"`
	ActorRole      string        `json:"actor_role,omitempty"`
	Said           string        `json:"said"`
	VectorClock    string        `json:"vector_clock,omitempty"`
	Causal         []string      `json:"causal_dependencies,omitempty"`
	ConflictStatus string        `json:"conflict_status,omitempty"`
	Hash           string        `json:"full_payload_hash,omitempty"`
	RequestID      uuid.NullUUID `json:"request_id"`
	// Purged: there is no event any more, only its id and its time.
	Purged string `json:"purged,omitempty"`
}

// Bounds of a page on the wire. An event whose content is larger goes without it,
// and is refused for that by whoever receives it: one event must not hold up the
// others.
const (
	maxEvents = 500
	maxSaid   = 8 << 20
)

// writePage writes a page as zstd NDJSON.
func writePage(w io.Writer, page reconcile.Page) error {
	// A page is a megabyte or so: a larger window takes memory and finds nothing more.
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return fmt.Errorf("open compressor: %w", err)
	}
	lines := json.NewEncoder(z)
	lines.SetEscapeHTML(false)
	for _, o := range page.Gone {
		if err := lines.Encode(line{ID: o.Event, CreatedAt: o.At, Purged: o.Reason}); err != nil {
			return errors.Join(fmt.Errorf("write purged event %s: %w", o.Event, err), z.Close())
		}
	}
	for i := range page.Events {
		e := &page.Events[i]
		said, clock := string(e.Said()), string(e.VectorClock)
		if len(said)+len(clock) > maxSaid {
			said, clock = "", ""
		}
		if err := lines.Encode(line{
			ID: e.ID, Store: e.Store, Device: e.Device, Seq: e.Seq, Type: e.Type, Version: e.Version,
			CreatedAt: e.CreatedAt, Actor: e.Actor, ActorRole: e.ActorRole,
			Said: said, VectorClock: clock, Causal: e.Causal,
			ConflictStatus: e.ConflictStatus, Hash: e.Hash, RequestID: e.RequestID,
		}); err != nil {
			return errors.Join(fmt.Errorf("write event %s: %w", e.ID, err), z.Close())
		}
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("close page: %w", err)
	}
	return nil
}

// encodePage is writePage into memory: a page must be whole before its length is
// promised, and again when a call is repeated.
func encodePage(page reconcile.Page) ([]byte, error) {
	var b bytes.Buffer
	err := writePage(&b, page)
	return b.Bytes(), err
}

// readPage reads what writePage wrote. Its memory is bounded whatever comes: by
// maxPage after decompression, by the decoder's window before.
func readPage(r io.Reader) (page reconcile.Page, err error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxPage), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return page, fmt.Errorf("open page: %w", err)
	}
	defer z.Close()
	limited := &io.LimitedReader{R: z, N: maxPage + 1}
	lines := json.NewDecoder(bufio.NewReader(limited))
	lines.DisallowUnknownFields()
	for {
		var l line
		switch err := lines.Decode(&l); {
		case errors.Is(err, io.EOF):
			return page, nil
		case limited.N <= 0:
			return reconcile.Page{}, fmt.Errorf("read page: more than %d bytes", maxPage)
		case err != nil:
			return reconcile.Page{}, fmt.Errorf("read page: line %d: %w", len(page.Events)+len(page.Gone), err)
		case len(page.Events) == maxEvents, len(page.Gone) > maxEvents:
			return reconcile.Page{}, fmt.Errorf("read page: more than %d events", maxEvents)
		}
		if l.Purged != "" {
			page.Gone = append(page.Gone, reconcile.Outcome{Event: l.ID, At: l.CreatedAt, Status: reconcile.Purged, Reason: l.Purged})
			continue
		}
		page.Events = append(page.Events, velox.Event{
			ID: l.ID, Store: l.Store, Device: l.Device, Seq: l.Seq, Type: l.Type, Version: l.Version,
			CreatedAt: l.CreatedAt, Actor: l.Actor, ActorRole: l.ActorRole,
			Payload: json.RawMessage(l.Said), VectorClock: json.RawMessage(l.VectorClock), Causal: l.Causal,
			ConflictStatus: l.ConflictStatus, Hash: l.Hash, RequestID: l.RequestID,
		})
	}
}
