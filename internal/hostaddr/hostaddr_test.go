package hostaddr

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/overlane/overlane/internal/testns"
)

// vagrant has an interface with the address that every machine of Vagrant's has, and one to the others.
func vagrant(t *testing.T) {
	t.Helper()
	testns.Enter(t)
	testns.Run(t, "ip link add nat type veth", "ip addr add 10.0.2.15/24 dev nat", "ip link set nat up", "ip route add default via 10.0.2.2",
		"ip link add lan type veth", "ip addr add 192.0.2.1/24 dev lan", "ip link set lan up")
}

func TestAdvertisedAddressThatIsElsewhere(t *testing.T) {
	vagrant(t)
	nat, lan := netip.MustParseAddr("10.0.2.15"), netip.MustParseAddr("192.0.2.1")
	if addr, err := (Source{}).Find(false); err != nil || addr != nat {
		t.Errorf("%s, %v by default, want %s", addr, err, nat)
	}
	for _, tc := range []struct {
		to   string
		want []string
	}{
		{"192.0.2.2", []string{"advertises 10.0.2.15", "reaches 192.0.2.2 from 192.0.2.1", "--advertise 192.0.2.1"}},
		{"192.0.2.1", []string{"is this host itself", "--advertise 192.0.2.1"}},
	} {
		said := Misplaced(nat, netip.MustParseAddr(tc.to))
		for _, part := range tc.want {
			if !strings.Contains(said, part) {
				t.Errorf("of %s: %q lacks %q", tc.to, said, part)
			}
		}
	}
	for _, tc := range []struct{ advertised, to string }{{"10.0.2.15", "198.51.100.1"}, {"192.0.2.1", "192.0.2.2"}, {"10.0.2.15", "127.0.0.2"}, {"10.0.2.15", "2001:db8::1"}} {
		if said := Misplaced(netip.MustParseAddr(tc.advertised), netip.MustParseAddr(tc.to)); said != "" {
			t.Errorf("%s to %s: %q, and nothing is wrong", tc.advertised, tc.to, said)
		}
	}
	if addr, err := Towards(netip.MustParseAddr("192.0.2.9")); err != nil || addr != lan {
		t.Errorf("to a neighbour from %s, %v, want %s", addr, err, lan)
	}
}
