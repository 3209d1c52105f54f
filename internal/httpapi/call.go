package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// call is a request to the admin's part of the API, as far as it is known.
type call struct {
	request *http.Request
	id      string    // of the request
	by      string    // who asks, "" before the token was seen
	store   uuid.UUID // what about, as soon as it is read
	text    []byte    // the body of a POST
}

func (c *call) ctx() context.Context { return c.request.Context() }

// handler answers a call.
type handler func(c *call) (status int, body any, err error)

// read serves a GET.
func (a *api) read(next handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := &call{request: r, id: w.Header().Get(headerRequestID)}
		err := a.identify(c)
		if err == nil {
			var status int
			var body any
			if status, body, err = next(c); err == nil {
				write(w, status, body)
				return
			}
		}
		a.refuse(w, c, "", err)
	}
}

// act serves a POST, which the audit knows as action.
func (a *api) act(action string, next handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := &call{request: r, id: w.Header().Get(headerRequestID)}
		err := a.identify(c)
		if err == nil {
			c.text, err = readBody(w, r)
		}
		if err == nil {
			err = a.once(w, c, next)
		}
		if err != nil {
			a.refuse(w, c, action, err)
		}
	}
}

// refuse answers with an error. That an action, or a stranger, was refused is written
// down.
func (a *api) refuse(w http.ResponseWriter, c *call, action string, err error) {
	f := asFault(err)
	if f.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	if err := a.refusals.note(c, action, f); err != nil {
		a.tell(w, c.request, err)
	}
	a.fail(w, c.request, f)
}

// admin is who asks when nobody is named.
const admin = "admin"

// identify lets a call pass whose bearer token is one of the admin's, and reads who says
// to make it.
func (a *api) identify(c *call) error {
	valid, err := a.opts.Tokens()
	if err != nil { // whose text is for the log: nobody has shown a token yet
		return &fault{Status: http.StatusServiceUnavailable, Code: "FAILED", Message: "the admin's tokens cannot be read; the daemon's log says why", own: err}
	}
	scheme, token, _ := strings.Cut(c.request.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		token = ""
	}
	// Digests are of one length, and each is compared: the time tells nothing.
	given, matches := sha256.Sum256([]byte(token)), 0
	for _, v := range valid {
		want := sha256.Sum256([]byte(v))
		matches |= subtle.ConstantTimeCompare(given[:], want[:])
	}
	switch {
	case token == "":
		return unauthorized("a Bearer token is needed")
	case matches != 1:
		return unauthorized("the token is not the admin's")
	}
	c.by = admin
	if name := c.request.Header.Get("X-Operator"); name != "" {
		if !printable(name, 64) {
			return bad("X-Operator", "X-Operator is not a name of at most 64 printable characters")
		}
		c.by = name
	}
	return nil
}

func unauthorized(message string) error {
	return &fault{Status: http.StatusUnauthorized, Code: "UNAUTHORIZED", Message: message, Field: "Authorization"}
}

// printable reports whether a text is one that a person wrote for others to read: not
// blank, without controls and line breaks, and whole. What JSON could not decode has
// become U+FFFD.
func printable(text string, most int) bool {
	return utf8.ValidString(text) && utf8.RuneCountInString(text) <= most && strings.TrimSpace(text) != "" &&
		!strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError })
}

// maxBody bounds a request's body.
const maxBody = 64 << 10

// readBody reads a POST's JSON, unparsed.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); media != "application/json" {
		return nil, &fault{Status: http.StatusUnsupportedMediaType, Code: "BAD_MEDIA_TYPE", Message: fmt.Sprintf("media type %.64q, want application/json", media), Field: "Content-Type"}
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &fault{Status: http.StatusRequestEntityTooLarge, Code: "TOO_LARGE", Message: fmt.Sprintf("the body has more than %d bytes", maxBody)}
	case err != nil:
		return nil, bad("", "body: %v", err)
	case !utf8.Valid(text):
		return nil, bad("", "body: not UTF-8")
	}
	return text, nil
}

// encode prints an answer whole before any of it is sent.
func encode(status int, body any, err error) (Answer, error) {
	if err != nil {
		return Answer{}, err
	}
	text, err := json.Marshal(body)
	if err != nil {
		return Answer{}, fmt.Errorf("encode answer: %w", err)
	}
	return Answer{Status: status, Body: text}, nil
}
