package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
)

// The page says how far the daemon is, what `overlane status` says once it is there, and why it does not serve.
func TestWebSaysWhatStatusSays(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := newControl(func() {})
	failed := make(chan error, 1)
	stop := c.serveWeb(settings{}, l, failed)
	t.Cleanup(func() {
		stop()
		if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	ask := func() (int, string) {
		answer, err := http.Get("http://" + l.Addr().String() + "/api/state")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
	// What the page says may be half a second old.
	says := func(status int, parts ...string) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			got, text := ask()
			lacking := slices.DeleteFunc(slices.Clone(parts), func(part string) bool { return strings.Contains(text, part) })
			if got == status && len(lacking) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d, without %q: %s", got, lacking, text)
			}
		}
	}
	says(http.StatusServiceUnavailable, starting)
	c.waits(errors.New("no default route"))
	says(http.StatusServiceUnavailable, "waits for this host's address: no default route")
	stats := func() datapath.Stats { return datapath.Stats{} }
	c.stats.Store(&stats)
	c.networks.Store(networkDaemon(t, nil))
	c.overlay.Store(busy(t))
	says(http.StatusOK, `"host":"host1"`, `"key":"vni=5000"`, `"10.20.0.9"`, `no space left on device`, `"reason":"vtep_unknown"`)
	c.refused.Store(&discovery.TwinError{})
	says(http.StatusServiceUnavailable, (&discovery.TwinError{}).Error())
}
