// Package page serves to browsers what a host knows of its cluster: read-only, without secrets, by files of its own alone.
package page

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/net/netutil"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/overlay"
)

// Source is where the page has from what it shows.
type Source struct {
	Status func() (overlay.Status, error) // an error says in words why there is nothing to show
	Stats  func() datapath.Stats          // the counters of it, at less cost
	// Trace writes in words what would become of a packet, and what does of those that go, until ctx ends.
	Trace func(ctx context.Context, query TraceQuery, out io.Writer) error
}

// Config says what is served to whom.
type Config struct {
	Source
	Password *Password // nil: everybody is let in
	Host     string    // of this host, by which a browser may ask
}

// Page is a page that is served.
type Page struct {
	watcher  *watcher
	password *Password
	server   http.Server

	trace   func(context.Context, TraceQuery, io.Writer) error
	tracing chan struct{}   // has room for one at a time
	ends    context.Context // with the page
	end     context.CancelFunc
}

const (
	// How many connections are served at a time, and of those from one address, which may be that of a proxy; a browser opens up to six.
	maxClients = 128
	maxFromOne = 48
	// How long a client may take to ask, and to take an answer; a page that is looked at asks each second. Who has given no password has
	// no connection for longer than that: it idles only after an answer that was no refusal.
	requestTimeout = 5 * time.Second
	answerTimeout  = 20 * time.Second
	idleTimeout    = time.Minute
	// maxHeader is plenty for what browsers send.
	maxHeader = 16 << 10
)

// New makes a page, and begins to look at the counters.
func New(cfg Config) *Page {
	p := &Page{watcher: watch(cfg.Source, sampleInterval), password: cfg.Password, trace: cfg.Trace, tracing: make(chan struct{}, 1)}
	p.ends, p.end = context.WithCancel(context.Background())
	mux := http.NewServeMux()
	mux.Handle("GET /", files())
	mux.HandleFunc("GET /api/state", p.watcher.serveState)
	mux.HandleFunc("GET /api/history", p.watcher.serveHistory)
	mux.HandleFunc("POST /api/trace", p.serveTrace)
	p.server = http.Server{
		Handler:           guard(cfg, mux),
		ReadHeaderTimeout: requestTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnState:         (&crowd{from: map[netip.Prefix]int{}}).count,
	}
	return p
}

// Serve answers on a listener until Close.
func (p *Page) Serve(l net.Listener) error {
	return p.server.Serve(netutil.LimitListener(l, maxClients))
}

// Close ends traces, and waits for answers under way.
func (p *Page) Close(ctx context.Context) error {
	p.end()
	err := p.server.Shutdown(ctx)
	p.watcher.close()
	return err
}
