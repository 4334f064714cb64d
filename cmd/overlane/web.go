package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/internal/page"
	"github.com/overlane/overlane/overlay"
)

// listenWeb gives nil where no page is asked for.
func (s *settings) listenWeb() (net.Listener, error) {
	if !s.web.IsValid() {
		return nil, nil
	}
	at := s.web.String()
	if s.web.Addr() == netip.IPv6Unspecified() {
		at = fmt.Sprintf(":%d", s.web.Port()) // also where the kernel has no IPv6
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		return nil, fmt.Errorf("--web (OVERLANE_WEB): %w", err)
	}
	return l, nil
}

// How long the page's answers that are under way may take when the daemon ends.
const webTimeout = time.Second

// serveWeb serves the page, until what it gives is called. While the daemon starts, or does not serve, the page says why.
func (c *control) serveWeb(s settings, l net.Listener, failed chan<- error) (stop func()) {
	host, _ := os.Hostname()
	p := page.New(page.Config{Source: page.Source{Status: c.webStatus, Stats: c.webStats, Trace: c.webTrace}, Password: s.webPassword, Host: host})
	go func() { failed <- p.Serve(l) }()
	return sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), webTimeout)
		defer cancel()
		p.Close(ctx) // what takes longer is a client's fault
	})
}

// webStatus is what `overlane status` says.
func (c *control) webStatus() (overlay.Status, error) {
	c.answers.RLock()
	defer c.answers.RUnlock()
	if reason := c.refused.Load(); reason != nil {
		return overlay.Status{}, reason
	}
	o := c.overlay.Load()
	if o == nil {
		return overlay.Status{}, errors.New(c.whyNotReady())
	}
	return c.statusOf(o), nil
}

// webStats has no counters while there are none.
func (c *control) webStats() datapath.Stats {
	if stats := c.stats.Load(); stats != nil {
		return (*stats)()
	}
	return datapath.Stats{}
}
