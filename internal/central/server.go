package central

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/velox"
	"github.com/veloxpos/reconciled/merkle"
	"github.com/veloxpos/reconciled/merkle/reconcile"
)

// Log is central's event log, as far as the server needs it.
type Log interface {
	reconcile.Archive
	reconcile.Scales
	reconcile.Rehasher
	// Accept stores events without a lease: ingest is idempotent by event_id. It fails
	// with an *UnavailableError when it takes none for now.
	Accept(ctx context.Context, store velox.StoreID, from uuid.UUID, events []velox.Event) ([]reconcile.Outcome, error)
}

// ServerOptions of a Server.
type ServerOptions struct {
	Installation uuid.UUID
	// Tokens are each store's bearer tokens; several are valid at once for rotation.
	Tokens map[velox.StoreID][]string
	// Failed is told of every call that ended in a 5xx, once. May be nil.
	Failed func(call string, store velox.StoreID, err error)
	// Heard notes that a store has called, at most every heardEvery. May be nil.
	Heard func(ctx context.Context, store velox.StoreID) error
}

// heardEvery is how exactly it is known when a store last called.
const heardEvery = 5 * time.Minute

// Bounds of the calls that are worked on together: of one store, so that one that
// repeats itself cannot starve the others, and of all, since each may hold a page.
const (
	callsAtOnce    = 4
	allCallsAtOnce = 64
)

// Server answers stores. It keeps nothing between calls but the count of those
// in flight, so any replica can answer any call.
type Server struct {
	log    Log
	opts   ServerOptions
	tokens map[velox.StoreID][][sha256.Size]byte

	mu       sync.Mutex
	inFlight map[velox.StoreID]int
	all      int
	heard    map[velox.StoreID]time.Time // when that was last noted
}

// NewServer answers from log.
func NewServer(log Log, opts ServerOptions) *Server {
	s := &Server{log: log, opts: opts, tokens: map[velox.StoreID][][sha256.Size]byte{}, inFlight: map[velox.StoreID]int{}, heard: map[velox.StoreID]time.Time{}}
	for store, tokens := range opts.Tokens {
		for _, token := range tokens {
			s.tokens[store] = append(s.tokens[store], sha256.Sum256([]byte(token)))
		}
	}
	return s
}

// Handler serves the protocol under /federation/v1/.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	const base = "/federation/v1/stores/{store}/"
	mux.Handle("GET "+base+"ready", s.call("ready", "", s.ready))
	mux.Handle("POST "+base+"open", s.call("open", mediaMerkle, s.open))
	mux.Handle("POST "+base+"ask", s.call("ask", mediaMerkle, s.ask))
	mux.Handle("POST "+base+"pull", s.call("pull", mediaMerkle, s.pull))
	mux.Handle("POST "+base+"slot", s.call("slot", mediaJSON, s.slot))
	mux.Handle("POST "+base+"push", s.call("push", mediaPage, s.push))
	mux.Handle("POST "+base+"weigh", s.call("weigh", mediaMerkle, s.weigh))
	mux.Handle("POST "+base+"verify", s.call("verify", mediaJSON, s.verify))
	return mux
}

// request is a call that has passed the door: its store's token was right.
type request struct {
	store velox.StoreID
	from  uuid.UUID
	body  io.Reader
}

// reply is what a call answers with.
type reply struct {
	media string
	body  []byte
	next  *merkle.Key // the page is not the last
}

// refusal is an error that is the caller's.
type refusal struct {
	status int
	problem
}

func (r *refusal) Error() string { return r.Message }

func refuse(status int, code, field, format string, args ...any) error {
	return &refusal{status, problem{Code: code, Message: fmt.Sprintf(format, args...), Field: field}}
}

// call is the door: store, token, media type, size, and its place in the queue.
func (s *Server) call(name, media string, answer func(context.Context, request) (reply, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		store, err := s.admit(r, media)
		if err == nil {
			err = s.enter(store)
		}
		if err != nil {
			s.fail(w, name, store, err)
			return
		}
		defer s.leave(store)
		s.hear(r.Context(), store)
		from, err := sender(r)
		if err != nil {
			s.fail(w, name, store, err)
			return
		}
		line := unhurried{r.Body, http.NewResponseController(w)}
		out, err := answer(r.Context(), request{store, from, http.MaxBytesReader(w, line, maxPage)})
		if err != nil {
			s.fail(w, name, store, err)
			return
		}
		w.Header().Set("Content-Type", out.media)
		w.Header().Set("Content-Length", strconv.Itoa(len(out.body)))
		w.Header().Set(headerInstallation, s.opts.Installation.String())
		if out.next != nil {
			w.Header().Set(headerNext, encodeKey(*out.next))
		}
		for part := range slices.Chunk(out.body, maxBurst) {
			line.extend()
			if _, err := w.Write(part); err != nil {
				return // a caller that went away needs no answer
			}
		}
	})
}

// unhurried is a request that may take its time while it moves: the timeouts of an
// http.Server are of whole requests, and would cut a large page on a slow line.
type unhurried struct {
	io.ReadCloser
	*http.ResponseController
}

// stalled is how long a request may stand still.
const stalled = 2 * time.Minute

// extend gives the next part its time. A server without deadlines needs none.
func (u unhurried) extend() {
	until := time.Now().Add(stalled)
	_ = u.SetReadDeadline(until)
	_ = u.SetWriteDeadline(until)
}

func (u unhurried) Read(b []byte) (int, error) {
	u.extend()
	return u.ReadCloser.Read(b)
}

func (s *Server) admit(r *http.Request, media string) (velox.StoreID, error) {
	store, err := velox.ParseStoreID(r.PathValue("store"))
	if err != nil {
		return store, refuse(http.StatusBadRequest, "BAD_STORE_ID", "store_id", "%v", err)
	}
	token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !found || token == "" {
		return store, refuse(http.StatusUnauthorized, "TOKEN_MISSING", "Authorization", "a Bearer token is needed")
	}
	if !s.owns(token, store) {
		// The same answer for a wrong token and a store that is not served: a token
		// must not tell which stores there are.
		return store, refuse(http.StatusForbidden, "TOKEN_REFUSED", "Authorization", "the token is not one of store %s", store)
	}
	if media != "" {
		if got, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); got != media {
			return store, refuse(http.StatusUnsupportedMediaType, "BAD_MEDIA_TYPE", "Content-Type", "media type %q, want %s", got, media)
		}
	}
	return store, nil
}

// sender is the installation that calls; uuid.Nil when it does not say.
// hear notes that a store has called. It is told like any failed call when that cannot
// be noted, and the call goes on.
func (s *Server) hear(ctx context.Context, store velox.StoreID) {
	s.mu.Lock()
	due := s.opts.Heard != nil && time.Since(s.heard[store]) >= heardEvery
	if due {
		s.heard[store] = time.Now()
	}
	s.mu.Unlock()
	if !due {
		return
	}
	if err := s.opts.Heard(ctx, store); err != nil && s.opts.Failed != nil {
		s.opts.Failed("hear", store, err)
	}
}

func sender(r *http.Request) (uuid.UUID, error) {
	header := r.Header.Get(headerInstallation)
	if header == "" {
		return uuid.Nil, nil
	}
	id, err := uuid.Parse(header)
	if err != nil {
		return id, refuse(http.StatusBadRequest, "BAD_INSTALLATION", headerInstallation, "installation %.64q is not a UUID", header)
	}
	return id, nil
}

// owns compares in constant time, digests of equal length.
func (s *Server) owns(token string, store velox.StoreID) bool {
	sum := sha256.Sum256([]byte(token))
	found := 0
	for _, want := range s.tokens[store] {
		found |= subtle.ConstantTimeCompare(sum[:], want[:])
	}
	return found == 1
}

func (s *Server) enter(store velox.StoreID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == allCallsAtOnce {
		return refuse(http.StatusTooManyRequests, "BUSY", "", "%d calls are in flight", allCallsAtOnce)
	}
	if s.inFlight[store] == callsAtOnce {
		return refuse(http.StatusTooManyRequests, "BUSY", "", "%d calls of store %s are in flight", callsAtOnce, store)
	}
	s.inFlight[store]++
	s.all++
	return nil
}

func (s *Server) leave(store velox.StoreID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.inFlight[store]--; s.inFlight[store] == 0 {
		delete(s.inFlight, store)
	}
}

func (s *Server) fail(w http.ResponseWriter, call string, store velox.StoreID, err error) {
	var refused *refusal
	var away *UnavailableError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &refused):
	case errors.As(err, &away):
		refused = &refusal{http.StatusServiceUnavailable, problem{Code: away.Code, Message: away.Reason}}
		w.Header().Set("Retry-After", strconv.Itoa(int(max(away.RetryAfter, time.Second).Seconds())))
	case errors.As(err, &tooLarge):
		refused = &refusal{http.StatusRequestEntityTooLarge, problem{Code: "TOO_LARGE", Message: err.Error()}}
	default:
		if s.opts.Failed != nil {
			s.opts.Failed(call, store, err)
		}
		// The reason stays in central's log: it may speak of the database.
		refused = &refusal{http.StatusInternalServerError, problem{Code: "FAILED", Message: call + " failed at central, see its log"}}
	}
	switch refused.status {
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "1")
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	w.Header().Set("Content-Type", mediaJSON)
	w.WriteHeader(refused.status)
	_ = json.NewEncoder(w).Encode(refused.problem)
}

// Ready is what central says of itself to a store.
type Ready struct {
	Installation uuid.UUID    `json:"installation"`
	Time         velox.Millis `json:"time"`
	Message      int          `json:"message_version"`
	Digest       int          `json:"digest_version"`
}

func (s *Server) ready(ctx context.Context, r request) (reply, error) {
	if _, err := s.log.Items(ctx, r.store, nil); err != nil {
		return reply{}, err
	}
	return jsonReply(Ready{s.opts.Installation, velox.MillisOf(time.Now()), merkle.MessageVersion, merkle.DigestVersion})
}

func (s *Server) open(ctx context.Context, r request) (reply, error) {
	opening, err := read(r.body, func(b []byte) (merkle.Opening, error) { return merkle.DecodeOpening(b, reconcile.MaxExceptions) })
	if err != nil {
		return reply{}, err
	}
	answer, err := reconcile.AnswerOpening(ctx, s.log, r.from, r.store, opening)
	if errors.Is(err, reconcile.ErrBadList) {
		return reply{}, refuse(http.StatusBadRequest, "BAD_MESSAGE", "exceptions", "%v", err)
	}
	return reply{media: mediaMerkle, body: merkle.EncodeReply(answer)}, err
}

func (s *Server) ask(ctx context.Context, r request) (reply, error) {
	questions, err := read(r.body, merkle.DecodeQuestions)
	if err != nil {
		return reply{}, err
	}
	answers, err := reconcile.AnswerQuestions(ctx, s.log, r.from, r.store, questions)
	if errors.Is(err, reconcile.ErrUnlisted) {
		return reply{}, refuse(http.StatusConflict, "UNLISTED", "exceptions", "%v", err)
	}
	return reply{media: mediaMerkle, body: merkle.EncodeAnswers(questions.Areas, answers)}, err
}

func (s *Server) pull(ctx context.Context, r request) (reply, error) {
	type wanted struct {
		merkle.Want
		after *merkle.Key
	}
	asked, err := read(r.body, func(b []byte) (w wanted, err error) {
		w.Want, w.after, err = merkle.DecodeWant(b)
		return w, err
	})
	if err != nil {
		return reply{}, err
	}
	page, err := s.log.Page(ctx, r.store, asked.Want, asked.after)
	if err != nil {
		return reply{}, err
	}
	body, err := encodePage(page)
	return reply{media: mediaPage, body: body, next: page.Next}, err
}

func (s *Server) weigh(ctx context.Context, r request) (reply, error) {
	want, err := read(r.body, func(b []byte) (merkle.Want, error) {
		want, _, err := merkle.DecodeWant(b)
		return want, err
	})
	if err != nil {
		return reply{}, err
	}
	weight, err := s.log.Weigh(ctx, r.store, want)
	if err != nil {
		return reply{}, err
	}
	return jsonReply(weight)
}

func (s *Server) verify(ctx context.Context, r request) (reply, error) {
	section, err := read(r.body, reconcile.DecodeSection)
	if err != nil {
		return reply{}, err
	}
	rehash, err := s.log.Rehash(ctx, r.store, section)
	if err != nil {
		return reply{}, err
	}
	return jsonReply(rehash)
}

// read decodes a message.
func read[T any](body io.Reader, decode func([]byte) (T, error)) (T, error) {
	message, err := io.ReadAll(io.LimitReader(body, merkle.MaxMessage+1))
	if err != nil {
		var none T
		return none, fmt.Errorf("read message: %w", err)
	}
	decoded, err := decode(message)
	switch {
	case errors.Is(err, merkle.ErrVersion):
		return decoded, refuse(http.StatusBadRequest, codeVersion, "", "%v", err)
	case err != nil:
		return decoded, refuse(http.StatusBadRequest, "BAD_MESSAGE", "", "%v", err)
	}
	return decoded, nil
}

func (s *Server) push(ctx context.Context, r request) (reply, error) {
	page, err := readPage(r.body)
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return reply{}, err
	}
	if err != nil {
		return reply{}, refuse(http.StatusBadRequest, "BAD_PAGE", "", "%v", err)
	}
	events := page.Events
	for i := range events {
		if events[i].Store != r.store {
			return reply{}, refuse(http.StatusForbidden, "OTHER_STORE", "store_id", "event %s is store %s's, the token store %s's",
				events[i].ID, events[i].Store, r.store)
		}
	}
	outcomes, err := s.log.Accept(ctx, r.store, r.from, events)
	if errors.Is(err, reconcile.ErrUnknownStore) {
		return reply{}, refuse(http.StatusConflict, "STORE_UNKNOWN", "store_id", "central's database has no store %s: make it there first", r.store)
	}
	if err != nil {
		return reply{}, err
	}
	return jsonReply(outcomes)
}

func jsonReply(v any) (reply, error) {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(v); err != nil {
		return reply{}, fmt.Errorf("encode answer: %w", err)
	}
	return reply{media: mediaJSON, body: b.Bytes()}, nil
}
