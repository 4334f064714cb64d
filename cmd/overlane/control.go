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
	c.server.Handler = mux
	return c
}

func (c *control) status(w http.ResponseWriter, _ *http.Request) {
	o := c.overlay.Load()
	if o == nil {
		http.Error(w, "overlane is starting: try again in a moment", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(o.Status()) // an error is the client's going away
}

// How long the daemon may take to answer a command.
const controlTimeout = 10 * time.Second

// fetchStatus asks the daemon behind a control socket.
func fetchStatus(ctx context.Context, path string) (overlay.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
	var status overlay.Status
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://overlane/status", nil)
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
