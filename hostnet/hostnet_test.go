package hostnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/internal/testns"
)

func mount(t *testing.T, what, at string) {
	t.Helper()
	must(t, unix.Mount(what, at, "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(at, 0)) })
}

func attachment(name string, addrs ...string) Interface {
	i := Interface{Name: name, Alias: "overlane:" + name}
	for _, a := range addrs {
		i.Addrs = append(i.Addrs, netip.MustParsePrefix(a))
	}
	return i
}

// output runs a command in the namespace of the test, and gives what it says.
func output(command string) (string, error) {
	out, err := exec.Command("sh", "-c", command).CombinedOutput()
	return string(out), err
}

func TestSetUp(t *testing.T) {
	testns.Enter(t)
	testns.Run(t, "ip tuntap add ol-app mode tap", "ip link set ol-app alias overlane:ol-app")
	h, i := new(Host), attachment("ol-app", "10.20.0.9/16", "fd00:20::9/64")
	if err := h.Check(i); err == nil {
		t.Error("all is there before it was made")
	}
	for range 2 {
		must(t, h.SetUp(i))
		must(t, h.Check(i))
	}
	out, err := output("ip addr show ol-app; ip route; ip -6 route")
	must(t, err)
	for _, want := range []string{"inet 10.20.0.9/16", "inet6 fd00:20::9/64", "10.20.0.0/16 dev ol-app", "fd00:20::/64 dev ol-app"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
	if strings.Contains(out, "default via") || strings.Contains(out, "default dev") || strings.Contains(out, "tentative") {
		t.Error(out)
	}
	testns.Run(t, "ip addr del 10.20.0.9/16 dev ol-app")
	if err := h.Check(i); err == nil || errors.Is(err, ErrGone) || !strings.Contains(err.Error(), "10.20.0.9/16") {
		t.Errorf("an address is gone: %v", err)
	}
	testns.Run(t, "ip link set ol-app alias other")
	if err := h.Check(i); !errors.Is(err, ErrGone) {
		t.Errorf("another interface has the name: %v", err)
	}
	testns.Run(t, "ip link del ol-app")
	if err := h.SetUp(i); !errors.Is(err, ErrGone) {
		t.Errorf("it is gone: %v", err)
	}
}

// Without an address of IPv6 the interface has none of its own accord either.
func TestSetUpWithoutIPv6(t *testing.T) {
	testns.Enter(t)
	testns.Run(t, "ip tuntap add ol-app mode tap", "ip link set ol-app alias overlane:ol-app")
	must(t, new(Host).SetUp(attachment("ol-app", "10.20.0.9/16")))
	if out, err := output("ip -6 addr show ol-app"); err != nil || strings.Contains(out, "inet6") {
		t.Errorf("%s (%v)", out, err)
	}
}

func TestUses(t *testing.T) {
	testns.Enter(t)
	testns.Run(t, "ip link add wire type bridge", "ip addr add 192.0.2.1/24 dev wire", "ip link set wire up",
		"ip route add 10.20.0.0/16 via 192.0.2.9", "ip route add default via 192.0.2.9", "ip -6 route add fd00:20::/48 dev wire", "ip -6 route add default dev wire")
	for subnet, want := range map[string]string{
		"10.20.7.0/24":     "a route to 10.20.0.0/16 by wire",
		"10.0.0.0/8":       "a route to 10.20.0.0/16 by wire",
		"192.0.2.0/28":     "address 192.0.2.1/24 on wire",
		"fd00:20:0:1::/64": "a route to fd00:20::/48 by wire",
		"10.21.0.0/16":     "",
		"fd01::/64":        "",
	} {
		if what, err := new(Host).Uses(netip.MustParsePrefix(subnet)); err != nil || what != want {
			t.Errorf("%s: %q (%v), want %q", subnet, what, err, want)
		}
	}
}

// machine is a host with a container of another network, whose packets it forwards and masquerades, as Docker has it, and an attachment
// behind which is a container of a network.
func machine(t *testing.T) (Interface, *Host) {
	t.Helper()
	testns.Enter(t)
	for _, c := range []struct{ name, link, host, own, host6, own6 string }{
		{"other", "docker0", "172.17.0.1/16", "172.17.0.2/16", "fd17::1/64", "fd17::2/64"},
		{"member", "ol-app", "10.20.0.9/16", "10.20.0.2/16", "fd20::9/64", "fd20::2/64"},
	} {
		ns := namespace(c.name)
		testns.Run(t, "ip netns add "+ns,
			"ip link add "+c.link+" type veth peer name eth0 netns "+ns, "ip addr add "+c.host+" dev "+c.link, "ip -6 addr add "+c.host6+" dev "+c.link+" nodad", "ip link set "+c.link+" up",
			"ip netns exec "+ns+" sh -c 'ip link set lo up; ip addr add "+c.own+" dev eth0; ip -6 addr add "+c.own6+" dev eth0 nodad; ip link set eth0 up'")
		t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
		for _, to := range []string{c.host, c.host6} {
			testns.Run(t, "ip netns exec "+ns+" ip route add default via "+netip.MustParsePrefix(to).Addr().String())
		}
	}
	testns.Run(t, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
		"nft add table inet nat", "nft 'add chain inet nat post { type nat hook postrouting priority 100; }'", "nft 'add rule inet nat post masquerade'",
		"nft 'add chain inet nat pre { type nat hook prerouting priority -100; }'", "nft add rule inet nat pre fib daddr type local tcp dport 8080 dnat ip to 172.17.0.2:80")
	return attachment("ol-app", "10.20.0.9/16", "fd20::9/64"), kept(t)
}

// within calls f on a thread of a namespace: what sockets it opens belong there.
func within(t *testing.T, name string, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		ns, err := netns.GetFromName(name)
		if err == nil {
			err = netns.Set(ns)
			ns.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	must(t, <-done)
}

// namespace is the name of a container's, of this run alone.
func namespace(name string) string { return fmt.Sprintf("hostnet-%s-%d", name, os.Getpid()) }

func reaches(from, to string) bool {
	_, err := output("ip netns exec " + namespace(from) + " ping -q -c 2 -i 0.05 -W 1 " + to)
	return err == nil
}

// No packet gets from a network to a container that is not on it through the host, nor back, whatever it forwards and translates; the
// attachment's address is reached by its own interface alone, and by that one nothing else of the host.
func TestIsolation(t *testing.T) {
	i, h := machine(t)
	through := [][2]string{
		{"other", "10.20.0.2"}, {"member", "172.17.0.2"}, {"other", "fd20::2"}, {"member", "fd17::2"}, // forwarded
		{"other", "10.20.0.9"}, {"other", "fd20::9"}, {"member", "172.17.0.1"}, {"member", "fd17::1"}, // the host's addresses by a way that is not theirs
	}
	own := [][2]string{{"member", "10.20.0.9"}, {"member", "fd20::9"}, {"other", "172.17.0.1"}, {"other", "fd17::1"}}
	all := func(when string, ways [][2]string, want bool) {
		t.Helper()
		var pings sync.WaitGroup
		for _, way := range ways {
			pings.Go(func() {
				if reaches(way[0], way[1]) != want {
					t.Errorf("%s: %s reaches %s: %v", when, way[0], way[1], !want)
				}
			})
		}
		pings.Wait()
	}
	published := func() (err error) {
		within(t, namespace("member"), func() error {
			var conn net.Conn
			if conn, err = net.DialTimeout("tcp", "10.20.0.9:8080", time.Second); err == nil {
				conn.Close()
			}
			return nil
		})
		return err
	}
	within(t, namespace("other"), func() error {
		l, err := net.Listen("tcp", ":80")
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})

	must(t, published())
	all("before", through, true)
	all("before", own, true)
	must(t, h.Isolate([]Interface{i}))
	all("kept apart", through, false)
	all("kept apart", own, true)
	testns.Run(t, "ping -q -c 1 -W 2 10.20.0.2", "ping -q -c 1 -W 2 fd20::2", "ping -q -c 1 -W 2 10.20.0.9", "ping -q -c 1 -W 2 172.17.0.2")
	if err := published(); err == nil {
		t.Error("a port that another network's container has published is reached")
	}

	// What others do to the rules of the host does not undo it.
	testns.Run(t, "nft flush ruleset")
	if out, err := output("nft delete table inet overlane"); err == nil {
		t.Errorf("the table can be removed: %s", out)
	}
	all("rules flushed", through, false)
	all("rules flushed", own, true)

	must(t, h.Isolate([]Interface{i, attachment("ol-more", "10.21.0.9/16")}))
	all("another attachment beside it", through, false)
	must(t, h.Isolate([]Interface{i}))
	must(t, h.Isolate(nil))
	if out, err := output("nft list ruleset"); err != nil || strings.Contains(out, "overlane") {
		t.Errorf("left: %s (%v)", out, err)
	}
}

// The table goes with its daemon, and another daemon's is not taken.
func TestFenceOfAnother(t *testing.T) {
	testns.Enter(t)
	first, second := new(Host), new(Host)
	must(t, first.Isolate([]Interface{attachment("ol-app", "10.20.0.9/16")}))
	if err := second.Isolate([]Interface{attachment("ol-app", "10.20.0.9/16")}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("error %v", err)
	}
	must(t, first.Isolate(nil))

	testns.Run(t, "nft add table inet overlane")
	if err := first.Isolate([]Interface{attachment("ol-app", "10.20.0.9/16")}); err == nil || !strings.Contains(err.Error(), "nft delete table inet overlane") {
		t.Errorf("a table that somebody has made: %v", err)
	}
	testns.Run(t, "nft delete table inet overlane")
	must(t, second.Isolate([]Interface{attachment("ol-app", "10.20.0.9/16")}))
	runtime.KeepAlive(second)
}

// What is left of attachments is removed, and nothing else.
func TestClean(t *testing.T) {
	testns.Enter(t)
	testns.Run(t, "ip tuntap add ol-app mode tap", "ip link set ol-app alias overlane:1", "ip tuntap add ol-own mode tap", "ip tuntap add ov1 mode tap", "ip link set ov1 alias overlane:2", "ip link add ol-bridge type bridge")
	must(t, cleanLinks())
	out, err := output("ip -br link")
	must(t, err)
	for name, want := range map[string]bool{"ol-app": false, "ol-own": true, "ov1": true, "ol-bridge": true} {
		if strings.Contains(out, name) != want {
			t.Errorf("%s is there: %v", name, !want)
		}
	}
}
