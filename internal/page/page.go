// Package page serves to browsers what a host knows of its cluster: read-only, without secrets, by files of its own alone.
package page

import (
	"context"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/overlay"
)

// Source is where the page has from what it shows.
type Source struct {
	Status func() (overlay.Status, error) // an error says in words why there is nothing to show
	Stats  func() datapath.Stats          // the counters of it, at less cost
}

// Config says what is served to whom.
type Config struct {
	Source
	Password *Password // nil: everybody is let in
	Host     string    // of this host, by which a browser may ask
}

// Page is a page that is served.
type Page struct {
	watcher *watcher
	server  http.Server
}

const (
	// maxClients is how many connections are served at a time; a browser opens up to six.
	maxClients = 64
	// How long a client may take to ask, and to take an answer; a page that is looked at asks each second.
	requestTimeout = 5 * time.Second
	answerTimeout  = 20 * time.Second
	idleTimeout    = time.Minute
	// maxHeader is plenty for what browsers send.
	maxHeader = 16 << 10
)

// New makes a page, and begins to look at the counters.
func New(cfg Config) *Page {
	p := &Page{watcher: watch(cfg.Source, sampleInterval)}
	mux := http.NewServeMux()
	mux.Handle("GET /", files())
	mux.HandleFunc("GET /api/state", p.watcher.serveState)
	mux.HandleFunc("GET /api/history", p.watcher.serveHistory)
	p.server = http.Server{
		Handler:           guard(cfg, mux),
		ReadHeaderTimeout: requestTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
	}
	return p
}

// Serve answers on a listener until Close.
func (p *Page) Serve(l net.Listener) error {
	return p.server.Serve(netutil.LimitListener(l, maxClients))
}

// Close waits for answers under way.
func (p *Page) Close(ctx context.Context) error {
	err := p.server.Shutdown(ctx)
	p.watcher.close()
	return err
}
