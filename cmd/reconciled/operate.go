package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/daemon"
	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/httpapi"
	"github.com/veloxpos/reconciled/internal/velox"
)

// apiClient talks to the daemon that runs on this machine, over its own API.
type apiClient struct {
	base  string
	token string
	by    string // who asks, for the audit
	http  *http.Client
}

func newAPIClient(c *config.Config) *apiClient {
	host, port, _ := net.SplitHostPort(c.API.Listen) // checked by config
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	by, _ := whoDecides("") // the API has a word for nobody
	return &apiClient{base: "http://" + net.JoinHostPort(host, port), token: c.API.Token, by: by, http: &http.Client{Timeout: 30 * time.Second}}
}

// errNoDaemon: nobody listens at the API's address.
var errNoDaemon = errors.New("no daemon answers")

// apiError is an answer that is no success.
type apiError struct {
	status  int
	Code    string `json:"code"`
	Message string `json:"message"`
	Holder  string `json:"holder"`
	RunID   string `json:"runId"`
}

func (e *apiError) Error() string {
	return fmt.Sprintf("the daemon answered %d %s: %s", e.status, e.Code, e.Message)
}

// call makes a request and decodes its answer.
func (c *apiClient) call(ctx context.Context, method, path string, body, into any) error {
	var payload bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&payload).Encode(body); err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, &payload)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	request.Header.Set("Content-Type", "application/json")
	if c.by != "" {
		request.Header.Set("X-Operator", c.by)
	}
	response, err := c.http.Do(request)
	if opErr := new(net.OpError); errors.As(err, &opErr) && opErr.Op == "dial" {
		return fmt.Errorf("%w at %s", errNoDaemon, c.base)
	}
	if err != nil {
		return fmt.Errorf("ask the daemon: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 8<<20))
	if err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	if response.StatusCode >= 300 {
		return c.refused(response, answer)
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("what answers at %s is not this daemon: %w", c.base, err)
	}
	return nil
}

func (c *apiClient) refused(response *http.Response, answer []byte) error {
	fault := apiError{status: response.StatusCode}
	if json.Unmarshal(answer, &fault) != nil || fault.Code == "" {
		return fmt.Errorf("what answers at %s is not this daemon: status %d", c.base, response.StatusCode)
	}
	seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
	retryAfter := time.Duration(seconds) * time.Second
	switch fault.Code {
	case "Paused":
		return &httpapi.PausedError{Message: fault.Message, RetryAfter: retryAfter}
	case "LockHeld":
		run, _ := uuid.Parse(fault.RunID)
		return &httpapi.HeldError{Holder: fault.Holder, Run: run, RetryAfter: retryAfter}
	case "Observing":
		return fmt.Errorf("%w; set mode: normal in the configuration first", errObserving)
	}
	return &fault
}

// await starts a task through the daemon and follows its run to the end.
func (c *apiClient) await(ctx context.Context, path string, body any, follow func(httpapi.Run)) (httpapi.Run, error) {
	var run httpapi.Run
	if err := c.call(ctx, http.MethodPost, path, body, &run); err != nil {
		return run, err
	}
	id := run.ID
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		if err := c.call(ctx, http.MethodGet, "/sync/federation/runs/"+id.String(), nil, &run); err != nil {
			return run, err
		}
		if run.State != "running" {
			return run, nil
		}
		follow(run)
		select {
		case <-ctx.Done():
			return run, context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

const pollEvery = 200 * time.Millisecond

// ask reads from the running daemon, or where there is none from the books themselves.
func ask[T any](d *deps, path string, query url.Values, books func(*daemon.Books) (T, error)) (answer T, err error) {
	c, err := d.load(config.Client)
	if err != nil {
		return answer, err
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	if err = newAPIClient(c).call(d.ctx, http.MethodGet, path, nil, &answer); !errors.Is(err, errNoDaemon) {
		return answer, err
	}
	if c, err = d.load(config.Local); err != nil {
		return answer, err
	}
	s, err := openSite(d.ctx, c)
	if err != nil {
		return answer, err
	}
	defer s.Close()
	return books(daemon.NewBooks(s.db))
}

// storeFlags name the store that a command is about.
type storeFlags struct {
	Store  string `short:"s" help:"Store id. Needed unless the configuration lists exactly one."`
	Output string `short:"o" help:"text or json." enum:"text,json" default:"text"`
}

func (f storeFlags) storeID(c *config.Config) (uuid.UUID, error) {
	if f.Store == "" {
		if stores := c.StoreIDs(); len(stores) == 1 {
			return stores[0], nil
		}
		return uuid.Nil, fmt.Errorf("--store is needed: the configuration lists %d stores", len(c.StoreIDs()))
	}
	id, err := velox.ParseStoreID(f.Store)
	if err != nil {
		return id, fmt.Errorf("--store: %w", err)
	}
	return id, nil
}

// id is storeID where the configuration is needed for nothing else.
func (f storeFlags) id(d *deps) (uuid.UUID, error) {
	c, err := d.load(config.Client)
	if err != nil {
		return uuid.Nil, err
	}
	return f.storeID(c)
}

// show prints an answer as JSON, or as a table does.
func (f storeFlags) show(w io.Writer, answer any, table func(*tabwriter.Writer)) error {
	if f.Output == "json" {
		return printJSON(w, answer)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	table(t)
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// cell is a text for a table: on one line, and not too long. What the POS wrote may
// hold anything, also what a terminal would obey.
func cell(text string) string {
	const most = 80
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most-1]) + "…"
	}
	return cmp.Or(strings.TrimSpace(text), "-")
}

func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(v); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// open opens the site of the store that a command is about: with a client to central
// where it runs as the store.
func (f storeFlags) open(d *deps, mode config.Mode) (s *site, store uuid.UUID, err error) {
	c, err := d.load(mode)
	if err != nil {
		return nil, store, err
	}
	if store, err = f.storeID(c); err != nil {
		return nil, store, err
	}
	if s, err = openSite(d.ctx, c); err != nil {
		return nil, store, err
	}
	if mode == config.Store {
		if err = s.openClient(d.ctx); err != nil {
			s.Close()
			return nil, store, err
		}
	}
	return s, store, nil
}
