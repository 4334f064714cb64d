package page

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// TraceQuery names two containers of a network.
type TraceQuery struct {
	Network string `json:"network"` // key
	From    string `json:"from"`    // addresses
	To      string `json:"to"`
	Packets bool   `json:"-"` // not only what this host knows, but packets as they go
}

const (
	// traceTime is how long packets are shown.
	traceTime = 30 * time.Second
	// traceWait is how long one that was broken off may take to end, as where somebody asks for another pair.
	traceWait = 2 * time.Second
	// maxQuery is plenty for three names.
	maxQuery = 4 << 10
)

// serveTrace writes what becomes of packets, as it is seen. Whoever reaches the page could look at headers of others' packets, and make
// work for all hosts: packets are for those that gave a password. Another site's page can't ask: it would have to be allowed to
// send that type (Fetch standard, CORS-preflight).
func (p *Page) serveTrace(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Content-Type") != "application/json" {
		http.Error(w, "want a Content-Type of application/json", http.StatusUnsupportedMediaType)
		return
	}
	var query TraceQuery
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxQuery)).Decode(&query); err != nil {
		http.Error(w, fmt.Sprintf("what is to be traced: %s", err), http.StatusBadRequest)
		return
	}
	select {
	case p.tracing <- struct{}{}:
		defer func() { <-p.tracing }()
	case <-time.After(traceWait):
		http.Error(w, "another trace is under way: wait until it has ended", http.StatusServiceUnavailable)
		return
	case <-r.Context().Done():
		return
	}
	query.Packets = p.password != nil
	ctx, cancel := context.WithTimeout(r.Context(), traceTime)
	defer cancel()
	defer context.AfterFunc(p.ends, cancel)()
	out := http.NewResponseController(w)
	deadline := time.Now().Add(traceTime + answerTimeout)
	if err := out.SetReadDeadline(deadline); err == nil {
		out.SetWriteDeadline(deadline) // one fails as the other
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err := p.trace(ctx, query, flushed{w, out}); err != nil {
		fmt.Fprintf(w, "%s\n", err)
		return
	}
	if !query.Packets {
		fmt.Fprintln(w, "Packets themselves are shown where the page has a password (--web-password-file), and by `overlane trace`.")
	}
}

// flushed sends each text at once.
type flushed struct {
	io.Writer
	out *http.ResponseController
}

func (f flushed) Write(text []byte) (int, error) {
	n, err := f.Writer.Write(text)
	if err == nil {
		err = f.out.Flush()
	}
	return n, err
}
