package names

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// dial opens a connection to Docker's server at a port, of which 53 is the one that is redirected.
func (c *container) dial(proto string, port int) net.Conn {
	c.t.Helper()
	conn, err := net.Dial(proto, fmt.Sprintf("127.0.0.11:%d", port))
	must(c.t, err)
	c.t.Cleanup(func() { conn.Close() })
	return conn
}

// counts waits until so many were counted under a name, at least.
func (c *container) counts(name string, want uint64) {
	c.t.Helper()
	eventually(c.t, func() error {
		if got := c.server.Status().Queries[name]; got < want {
			return fmt.Errorf("%s: %d, want %d", name, got, want)
		}
		return nil
	})
}

// A container that sends what it should not, or too much, is dropped and counted, and others' queries are answered meanwhile.
func TestContainerMisbehaves(t *testing.T) {
	c := newContainer(t)
	c.has(app, 1, 1, []string{"db"}, "10.20.0.2")
	must(t, c.server.Serve(c.path, app))
	c.wants("db.", dns.TypeA, "A 10.20.0.2")

	udp := c.dial("udp4", 53)
	answer := new(dns.Msg).SetQuestion("db.", dns.TypeA)
	answer.Response = true
	packed, err := answer.Pack()
	must(t, err)
	for _, text := range []string{"x", strings.Repeat("x", maxQuery+1), string(packed)} {
		fmt.Fprint(udp, text)
	}
	c.counts("malformed", 3)
	fmt.Fprint(c.dial("udp4", 40000), "to nobody")
	c.counts("stray", 1)
	c.wants("db.", dns.TypeA, "A 10.20.0.2")

	query, err := new(dns.Msg).SetQuestion("silent.test.", dns.TypeA).Pack()
	must(t, err)
	before := c.server.Status().Queries["forwarded"]
	for sent := range maxPending + 50 {
		fmt.Fprint(udp, string(query))
		if sent%queriesPerTurn == 0 { // no more than a socket holds
			c.counts("forwarded", before+min(uint64(sent+1), maxPending))
		}
	}
	c.counts("forwarded", before+maxPending)
	eventually(t, func() error { // of those before some may have been given up meanwhile
		fmt.Fprint(udp, string(query))
		if got := c.server.Status().Queries["busy"]; got < 50 {
			return fmt.Errorf("%d are refused, want 50", got)
		}
		return nil
	})
	c.wants("db.", dns.TypeA, "A 10.20.0.2")

	for range connsPerSandbox + 5 {
		c.dial("tcp4", 53)
	}
	c.counts("refused", 5)
	if _, err := c.ask("udp", "db.", dns.TypeA); err != nil {
		t.Error(err)
	}
}

// What a container had ends with it: connections, queries that wait, goroutines.
func TestContainerGoes(t *testing.T) {
	c := newContainer(t)
	before := runtime.NumGoroutine()
	c.has(app, 1, 1, []string{"db"}, "10.20.0.2")
	must(t, c.server.Serve(c.path, app))
	idle, waiting := c.dial("tcp4", 53), c.dial("tcp4", 53)
	query, err := new(dns.Msg).SetQuestion("silent.test.", dns.TypeA).Pack()
	must(t, err)
	must(t, writeMessage(waiting, query))
	c.counts("forwarded", 1)
	c.server.Release(c.path, app)
	for _, conn := range []net.Conn{idle, waiting} {
		conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("a connection outlives its container: %v", err)
		}
	}
	eventually(t, func() error {
		if now := runtime.NumGoroutine(); now > before+1 { // the silent server's
			return fmt.Errorf("%d goroutines, %d before", now, before)
		}
		return nil
	})
}

func TestNamespaceIsGone(t *testing.T) {
	c := newContainer(t)
	const path = "/run/names-test-no-such-namespace"
	if err := c.server.Serve(path, app); err == nil {
		t.Fatal("no error tells that there is no namespace")
	}
	if s := c.server.Status(); s.Failed[path] == "" || s.Containers != 0 {
		t.Errorf("%+v", s)
	}
	if err := c.server.Serve(c.host, app); err == nil || !strings.Contains(err.Error(), "host's own") {
		t.Errorf("in the host's namespace: %v", err)
	}
	c.server.Release(path, app)
	if s := c.server.Status(); s.Failed[path] != "" {
		t.Errorf("%+v", s)
	}
}

// The kernel takes 64 programs of a namespace, and others may have some.
func TestKernelHasNoRoom(t *testing.T) {
	c := newContainer(t)
	for range 100 {
		sb, err := openSandbox(c.path)
		if err != nil {
			return
		}
		t.Cleanup(sb.close)
	}
	t.Error("the kernel takes a hundred programs: choose another number")
}
