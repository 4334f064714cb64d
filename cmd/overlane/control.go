package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/overlane/overlane/overlay"
)

// control serves the operator's commands on the control socket.
type control struct {
	overlay atomic.Pointer[overlay.Overlay] // nil until the daemon is ready
	server  http.Server
}

func newControl() *control {
	c := new(control)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", c.status)
	mux.HandleFunc("GET /members", c.members)
	mux.HandleFunc("GET /records", c.records)
	mux.HandleFunc("GET /stages", c.stages)
	c.server.Handler = mux
	return c
}

func (c *control) status(w http.ResponseWriter, _ *http.Request) {
	if o := c.ready(w); o != nil {
		answer(w, o.Status())
	}
}

func (c *control) members(w http.ResponseWriter, _ *http.Request) {
	if o := c.ready(w); o != nil {
		answer(w, o.Members())
	}
}

func (c *control) records(w http.ResponseWriter, _ *http.Request) {
	if o := c.ready(w); o != nil {
		answer(w, o.Records())
	}
}

// stages measures for as long as measuringTime.
func (c *control) stages(w http.ResponseWriter, r *http.Request) {
	o := c.ready(w)
	if o == nil {
		return
	}
	stages, err := o.Stages(r.Context(), measuringTime)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	answer(w, stages)
}

// ready is nil, and the client was told, while the daemon starts.
func (c *control) ready(w http.ResponseWriter) *overlay.Overlay {
	o := c.overlay.Load()
	if o == nil {
		http.Error(w, "overlane is starting: try again in a moment", http.StatusServiceUnavailable)
	}
	return o
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(body) // an error is the client's going away
}

// How long the daemon may take to answer a command.
const controlTimeout = 10 * time.Second

// How long workers measure themselves when a command asks.
const measuringTime = time.Second

// fetch asks the daemon behind a control socket.
func fetch[T any](ctx context.Context, path, what string) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
	var status T
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://overlane/"+what, nil)
	if err != nil {
		return status, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return status, unreachable(path, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 1024))
		return status, fmt.Errorf("%s", strings.TrimSpace(string(text)))
	}
	if err := json.NewDecoder(answer.Body).Decode(&status); err != nil {
		return status, fmt.Errorf("the daemon on %s gave an answer that this version does not understand: %w", path, err)
	}
	return status, nil
}
