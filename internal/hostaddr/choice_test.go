package hostaddr

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/overlane/overlane/internal/testns"
)

// goesOn wants the address to go on with at a time, or none for a reason.
func goesOn(t *testing.T, c *Choice, present netip.Addr, at time.Time, want string) (next netip.Addr, wait time.Duration) {
	t.Helper()
	next, wait, err := c.Next(present, at)
	if err == nil && next.String() != want || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("from %s to %s, %v; want %s", present, next, err, want)
	}
	return next, wait
}

// An address is kept for as long as the host has it, even where the default route leaves from another.
func TestNextAddress(t *testing.T) {
	testns.Enter(t)
	testns.Run(t, "ip link add wire type veth peer name far", "ip link set wire up", "ip link set far up",
		"ip addr add 192.0.2.1/24 dev wire", "ip addr add 198.51.100.1/24 dev wire", "ip route add default via 198.51.100.254")
	present, now := netip.MustParseAddr("192.0.2.1"), time.Unix(1, 0)
	for _, text := range []string{"", "wire", "192.0.2.1"} {
		c := NewChoice(source(t, text))
		goesOn(t, c, present, now, present.String())
		if _, wait := goesOn(t, c, present, now.Add(time.Hour), present.String()); wait != 0 {
			t.Errorf("%q: it is to look again in %s, and has lost nothing", text, wait)
		}
	}
	testns.Run(t, "ip addr del 192.0.2.1/24 dev wire")
	for text, want := range map[string]string{"": "198.51.100.1", "wire": "198.51.100.1", "192.0.2.1": "no network device"} {
		goesOn(t, NewChoice(source(t, text)), present, now, want)
	}
	testns.Run(t, "ip -4 addr flush dev wire", "ip addr add 2001:db8:1::1/64 dev wire nodad")
	goesOn(t, NewChoice(source(t, "wire")), present, now, "family")
}

// The default route fails over to another interface and is back: so is the host, once that has lasted, and however often the link flaps.
func TestFailoverIsNotForEver(t *testing.T) {
	testns.Enter(t)
	testns.Run(t, "ip link add wire type veth peer name far", "ip link set wire up", "ip link set far up",
		"ip link add spare type veth peer name far2", "ip link set spare up", "ip link set far2 up",
		"ip addr add 198.51.100.1/24 dev spare", "ip route add default via 198.51.100.254 metric 200")
	const comes, goes = "ip addr add 192.0.2.1/24 dev wire && ip route add default via 192.0.2.254 metric 100", "ip addr flush dev wire"
	first, spare, now := netip.MustParseAddr("192.0.2.1"), "198.51.100.1", time.Unix(1, 0)
	c := NewChoice(source(t, ""))
	testns.Run(t, comes)
	goesOn(t, c, first, now, first.String())
	testns.Run(t, goes)
	at, _ := goesOn(t, c, first, now, spare)
	goesOn(t, c, at, now, spare)
	for range 2 {
		testns.Run(t, comes)
		if _, wait := goesOn(t, c, at, now, spare); wait != backAfter {
			t.Errorf("it looks again in %s", wait)
		}
		now = now.Add(backAfter - 1)
		if _, wait := goesOn(t, c, at, now, spare); wait != 1 {
			t.Errorf("it looks again in %s", wait)
		}
		testns.Run(t, goes)
		goesOn(t, c, at, now, spare)
		now = now.Add(time.Hour)
	}
	testns.Run(t, comes)
	goesOn(t, c, at, now, spare)
	now = now.Add(backAfter)
	goesOn(t, c, at, now, first.String())
	if _, wait := goesOn(t, c, first, now.Add(time.Hour), first.String()); wait != 0 {
		t.Errorf("it is back, and looks again in %s", wait)
	}
}

// A lost address that comes back is not the host's where the default route leaves from another: that is where a new start would be.
func TestLostAddressThatIsNotTheBest(t *testing.T) {
	testns.Enter(t)
	testns.Run(t, "ip link add wire type veth peer name far", "ip link set wire up", "ip link set far up",
		"ip addr add 198.51.100.1/24 dev wire", "ip route add default via 198.51.100.254")
	first, now := netip.MustParseAddr("192.0.2.1"), time.Unix(1, 0)
	c := NewChoice(source(t, ""))
	at, _ := goesOn(t, c, first, now, "198.51.100.1")
	testns.Run(t, "ip addr add 192.0.2.1/24 dev wire")
	goesOn(t, c, at, now, at.String())
	goesOn(t, c, at, now.Add(time.Hour), at.String())
}
