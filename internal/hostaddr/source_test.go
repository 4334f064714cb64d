package hostaddr

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/overlane/overlane/internal/testns"
)

func source(t *testing.T, text string) Source {
	t.Helper()
	s, err := ParseSource(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// finds wants an address, or none for a reason.
func finds(t *testing.T, text, want string) {
	t.Helper()
	addr, err := source(t, text).Find(false)
	if err != nil && !strings.Contains(err.Error(), want) || err == nil && addr.String() != want {
		t.Errorf("%q gives %s, %v; want %s", text, addr, err, want)
	}
}

// What --advertise names may come after the daemon, and the host says what it lacks until then.
func TestAddressThatComesLater(t *testing.T) {
	testns.Enter(t)
	finds(t, "", "no default route")
	finds(t, "wire", "no interface of this host is called so")
	finds(t, "192.0.2.1", "is on no network device")
	testns.Run(t, "ip link add wire type veth peer name far", "ip link set wire up", "ip link set far up")
	finds(t, "wire", "no address that others can reach and that lasts")
	testns.Run(t, "ip addr add 192.0.2.1/24 dev wire", "ip addr add 2001:db8:1::1/64 dev wire nodad")
	finds(t, "", "no default route")
	finds(t, "wire", "192.0.2.1")
	finds(t, "192.0.2.1", "192.0.2.1")
	testns.Run(t, "ip route add default via 192.0.2.254")
	finds(t, "", "192.0.2.1")
}

// drainTold takes what is told of earlier changes, until it is quiet.
func drainTold(changes <-chan struct{}) {
	for {
		select {
		case <-changes:
		case <-time.After(5 * settleTime):
			return
		}
	}
}

// Whoever waits hears of it by netlink, not by looking again and again.
func TestChangeIsTold(t *testing.T) {
	testns.Enter(t)
	testns.Run(t, "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6", "ip link add wire type veth peer name far", "ip link set wire up", "ip link set far up")
	changes, err := Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []string{"ip addr add 192.0.2.1/24 dev wire", "ip route add default via 192.0.2.254", "ip addr del 192.0.2.1/24 dev wire"} {
		drainTold(changes)
		testns.Run(t, change)
		select {
		case <-changes:
		case <-time.After(time.Minute):
			t.Errorf("nothing was told of: %s", change)
		}
	}
}

// The kernel prefers a temporary address for what it sends (RFC 8981): it is gone in a day, and so no address to be known by.
func TestTemporaryAddress(t *testing.T) {
	testns.Enter(t)
	testns.Run(t, "ip link add wire type veth peer name far", "echo 2 >/proc/sys/net/ipv6/conf/wire/use_tempaddr",
		"ip link set wire up", "ip link set far up", "ip addr add 2001:db8:1::1/64 dev wire nodad mngtmpaddr", "ip -6 route add default via 2001:db8:1::fe dev wire")
	var temp netip.Addr
	deadline := time.Now().Add(time.Minute)
	for ; !temp.IsValid() || temp.String() == "2001:db8:1::1"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the kernel makes no temporary address")
		}
		temp, _ = Towards(netip.MustParseAddr("2001:db8::1"))
	}
	finds(t, "", "2001:db8:1::1")
	finds(t, "wire", "2001:db8:1::1")
	finds(t, temp.String(), "is a temporary one")
	testns.Run(t, "ip addr add 192.0.2.1/24 dev wire", "ip addr add 192.0.2.2/24 dev wire")
	finds(t, "192.0.2.2", "192.0.2.2") // to IPv4 the same flag says that it is not the first of its subnet
}
