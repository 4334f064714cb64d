package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/overlane/overlane/connectivity"
	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/networks"
	"github.com/overlane/overlane/overlay"
)

// control serves the operator's commands on the control socket.
type control struct {
	overlay atomic.Pointer[overlay.Overlay] // nil until the daemon is ready
	keyring atomic.Pointer[keyring]         // likewise
	// Networks that are everywhere; likewise.
	networks atomic.Pointer[networks.Manager]
	stats    atomic.Pointer[func() datapath.Stats] // likewise
	tests    atomic.Pointer[connectivity.Manager]  // likewise
	refused  atomic.Pointer[discovery.TwinError]   // why this host does not serve; nil: it does
	answers  sync.RWMutex                          // held to read by every answer under way
	lacks    atomic.Pointer[error]                 // what the start waits for
	stop     func()                                // ends the daemon
	server   http.Server
	// Of answers that go on until they are not wanted: the daemon ends, or does not serve any more.
	streams    context.Context
	endStreams func()
}

func newControl(stop func()) *control {
	c := &control{stop: stop}
	c.streams, c.endStreams = context.WithCancel(context.Background())
	c.server.RegisterOnShutdown(c.endStreams)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", c.status)
	mux.HandleFunc("GET /members", c.members)
	mux.HandleFunc("GET /records", c.records)
	mux.HandleFunc("GET /stages", c.stages)
	mux.HandleFunc("POST /capture", c.capture)
	mux.HandleFunc("GET /top", c.top)
	mux.HandleFunc("GET /resolve", c.resolve)
	mux.HandleFunc("POST /connectivity", c.connectivity)
	mux.HandleFunc("GET /ipam", c.addresses)
	mux.HandleFunc("POST /ipam/reclaim", c.reclaim)
	mux.HandleFunc("POST /ipam/take", c.take)
	mux.HandleFunc("POST /leave", c.leave)
	mux.HandleFunc("GET /attachments", c.attachments)
	mux.HandleFunc("POST /attach", c.attach)
	mux.HandleFunc("POST /detach", c.detach)
	mux.HandleFunc("POST /withdraw", c.withdraw)
	mux.HandleFunc("GET /networks", c.listNetworks)
	mux.HandleFunc("POST /networks", c.createNetwork)
	mux.HandleFunc("POST /networks/remove", c.removeNetwork)
	mux.HandleFunc("GET /token", c.printToken)
	mux.HandleFunc("GET /token/list", c.listTokens)
	mux.HandleFunc("POST /token/rotate", c.rotateToken(false))
	mux.HandleFunc("POST /token/rotate-now", c.rotateToken(true))
	c.server.Handler = c.unlessRefused(mux)
	return c
}

func (c *control) status(w http.ResponseWriter, _ *http.Request) {
	if o := c.ready(w); o != nil {
		answer(w, c.statusOf(o))
	}
}

func (c *control) statusOf(o *overlay.Overlay) overlay.Status {
	s := o.Status()
	s.Everywhere = c.networks.Load().Local()
	return s
}

func (c *control) members(w http.ResponseWriter, _ *http.Request) {
	if o := c.ready(w); o != nil {
		answer(w, translated(o.Members()))
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

const starting = "overlane is starting: try again in a moment"

// waits says what the start waits for.
func (c *control) waits(err error) { c.lacks.Store(&err) }

// whyNotReady is how far the start is.
func (c *control) whyNotReady() string {
	if err := c.lacks.Load(); err != nil && *err != nil {
		return fmt.Sprintf("overlane waits for this host's address: %s", *err)
	}
	return starting
}

// notReady tells the client that the daemon starts.
func (c *control) notReady(w http.ResponseWriter) {
	http.Error(w, c.whyNotReady(), http.StatusServiceUnavailable)
}

// ready is nil, and the client was told, while the daemon starts.
func (c *control) ready(w http.ResponseWriter) *overlay.Overlay {
	o := c.overlay.Load()
	if o == nil {
		c.notReady(w)
	}
	return o
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(body) // an error is the client's going away
}

// How long the daemon may take to answer a command.
const controlTimeout = 20 * time.Second

// How long workers measure themselves when a command asks.
const measuringTime = time.Second

// refusal is why the daemon does not serve.
type refusal string

func (r refusal) Error() string { return string(r) }

// fetch asks the daemon behind a control socket.
func fetch[T any](ctx context.Context, path, what string) (T, error) {
	var result T
	text, err := exchange(ctx, path, http.MethodGet, what, nil)
	if err != nil {
		return result, err
	}
	if err := json.Unmarshal(text, &result); err != nil {
		return result, fmt.Errorf("the daemon on %s gave an answer that this version does not understand: %w", path, err)
	}
	return result, nil
}

// maxArgument bounds what a command sends.
const maxArgument = 64 << 10

// post has the daemon do something, and writes what it says.
func post(cmd *cobra.Command, f *controlFlags, what, argument string) error {
	said, err := exchange(cmd.Context(), f.socket, http.MethodPost, what, strings.NewReader(argument))
	cmd.OutOrStdout().Write(said)
	return err
}

// controlClient speaks HTTP to a control socket.
func controlClient(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
}

// exchange sends a request to a control socket. What the daemon refuses is an error in its words.
func exchange(ctx context.Context, path, method, what string, body io.Reader) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://overlane/"+what, body)
	if err != nil {
		return nil, err
	}
	answer, err := controlClient(path).Do(request)
	if err != nil {
		return nil, unreachable(path, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, unreachable(path, err)
	}
	if answer.StatusCode == http.StatusForbidden {
		return nil, refusal(strings.TrimSpace(string(text)))
	}
	if answer.StatusCode != http.StatusOK {
		return nil, errors.New(strings.TrimSpace(string(text)))
	}
	return text, nil
}
