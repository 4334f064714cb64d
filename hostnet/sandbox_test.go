package hostnet

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/overlane/overlane/internal/testns"
)

// A sandbox has what is moved into it, and is gone when it is closed; the process stays where it is.
func TestSandbox(t *testing.T) {
	testns.Enter(t)
	before, err := os.Readlink("/proc/self/ns/net")
	must(t, err)
	s, err := NewSandbox()
	must(t, err)
	inside, err := os.Readlink(s.Path())
	must(t, err)
	testns.Run(t, "ip tuntap add ov1 mode tap", "ip link set ov1 alias overlane:1")
	i := Interface{Name: "ov1", Alias: "overlane:1", Addrs: attachment("", "198.18.0.1/15", "fd00::1/64").Addrs}
	must(t, s.Move(i))
	if out, err := output("ip -br link show ov1"); err == nil {
		t.Errorf("it is still here: %s", out)
	}
	for range 20 { // each on a thread of its own
		must(t, s.Do(func() error {
			if at, err := os.Readlink("/proc/thread-self/ns/net"); err != nil || at != inside {
				t.Errorf("in %s, not %s (%v)", at, inside, err)
			}
			return new(Host).Check(i)
		}))
	}
	must(t, s.Do(func() error {
		l, err := net.Listen("tcp", "127.0.0.1:7")
		if err == nil {
			l.Close()
		}
		return err
	}))
	if !s.HasIPv6() {
		t.Error("no IPv6")
	}
	if err := s.Move(i); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("an interface that is not there: %v", err)
	}
	if now, err := os.Readlink("/proc/self/ns/net"); err != nil || now != before {
		t.Errorf("the process is in %s, not %s (%v)", now, before, err)
	}
	path := s.Path()
	s.Close()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		at, err := os.Readlink(path)
		if err != nil || at != inside {
			break
		}
		if time.Now().After(end) {
			t.Fatal("its thread is left")
		}
	}
}
