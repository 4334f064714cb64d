package names

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// flood has another container send queries as fast as it can, until the test ends.
func flood(t *testing.T, s *Server) {
	t.Helper()
	query, err := new(dns.Msg).SetQuestion("db.", dns.TypeA).Pack()
	must(t, err)
	var conn net.Conn
	var path string
	ready := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		ready <- func() error {
			if _, err := netns.New(); err != nil {
				return err
			}
			path = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
			if err := exec.Command("ip", "link", "set", "lo", "up").Run(); err != nil {
				return err
			}
			docker, err := net.ListenPacket("udp4", "127.0.0.11:0")
			if err != nil {
				return err
			}
			t.Cleanup(func() { docker.Close() })
			if conn, err = net.Dial("udp4", docker.LocalAddr().String()); err != nil {
				return err
			}
			return s.Serve(path, app)
		}()
	}()
	must(t, <-ready)
	var end atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !end.Load() {
			conn.Write(query)
		}
	}()
	t.Cleanup(func() {
		end.Store(true)
		<-done
		conn.Close()
	})
}

// One container floods: another's queries are answered all the same.
func TestFloodTakesItsShare(t *testing.T) {
	c := newContainer(t)
	c.has(app, 1, 1, []string{"db"}, "10.20.0.2")
	must(t, c.server.Serve(c.path, app))
	flood(t, c.server)
	c.counts("answered", 1000)
	for range 50 {
		c.wants("db.", dns.TypeA, "A 10.20.0.2")
	}
}
