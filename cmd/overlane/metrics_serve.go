package main

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

const (
	maxScrapers     = 64               // connections at a time
	scrapeTimeout   = 30 * time.Second // for an answer to be made and taken
	scraperPatience = 5 * time.Minute  // for the next scrape over a connection
)

// serveMetrics serves until what it gives is called. That waits for answers under way, but not for a client that does not take its own.
func serveMetrics(handler http.Handler, l net.Listener, failed chan<- error) (stop func()) {
	server := http.Server{Handler: handler, ReadTimeout: controlTimeout, WriteTimeout: scrapeTimeout, IdleTimeout: scraperPatience}
	go func() { failed <- server.Serve(netutil.LimitListener(l, maxScrapers)) }()
	return sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), takeTime)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			server.Close()
		}
	})
}
