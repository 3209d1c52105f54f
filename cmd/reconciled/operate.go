package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/veloxpos/reconciled/internal/config"
	"github.com/veloxpos/reconciled/internal/httpapi"
	"github.com/veloxpos/reconciled/internal/velox"
)

// apiClient talks to the daemon that runs on this machine, over its own API.
type apiClient struct {
	base  string
	token string
	http  *http.Client
}

func newAPIClient(c *config.Config) *apiClient {
	host, port, _ := net.SplitHostPort(c.API.Listen) // checked by config
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	return &apiClient{base: "http://" + net.JoinHostPort(host, port), token: c.API.Token, http: &http.Client{Timeout: 30 * time.Second}}
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
	if fault.status != http.StatusConflict {
		return &fault
	}
	seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
	run, _ := uuid.Parse(fault.RunID)
	return &httpapi.HeldError{Holder: fault.Holder, Run: run, RetryAfter: time.Duration(seconds) * time.Second}
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
