package overlay

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/overlane/overlane/datapath"
)

// What a container may do with its interface is no fault: IPv6 that is switched off, what trust=mac is for.
func TestInterfaceState(t *testing.T) {
	four, six, local := netip.MustParseAddr("10.20.0.2"), netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fe80::2")
	mac, other := datapath.MAC{2, 0, 0, 0, 0, 1}, datapath.MAC{2, 0, 0, 0, 0, 2}
	for name, c := range map[string]struct {
		trust datapath.Trust
		tap   datapath.TapState
		want  string // empty: it is well
		lost  netip.Addr
	}{
		"as given":                      {datapath.TrustNone, datapath.TapState{Up: true, MAC: mac, Addrs: []netip.Addr{four, six, local}}, "", netip.Addr{}},
		"IPv6 is off":                   {datapath.TrustNone, datapath.TapState{Up: true, MAC: mac, Addrs: []netip.Addr{four}}, "", netip.Addr{}},
		"lost IPv6":                     {datapath.TrustNone, datapath.TapState{Up: true, MAC: mac, Addrs: []netip.Addr{four, local}}, "lost address fd00::2", six},
		"lost all":                      {datapath.TrustNone, datapath.TapState{Up: true, MAC: mac}, "lost address 10.20.0.2", four},
		"lost IPv4, trusted":            {datapath.TrustAddress, datapath.TapState{Up: true, MAC: mac, Addrs: []netip.Addr{six}}, "lost address 10.20.0.2", four},
		"another MAC":                   {datapath.TrustAddress, datapath.TapState{Up: true, MAC: other, Addrs: []netip.Addr{four, six}}, "spoofed_mac", netip.Addr{}},
		"a virtual machine has them":    {datapath.TrustMAC, datapath.TapState{Up: true, MAC: other}, "", netip.Addr{}},
		"a virtual machine, and is off": {datapath.TrustMAC, datapath.TapState{MAC: other}, "is down", netip.Addr{}},
	} {
		got := interfaceState(&Endpoint{}, datapath.PortConfig{MAC: mac, Addrs: []netip.Addr{four, six}, Trust: c.trust}, c.tap)
		if (got.Reason == "") != (c.want == "") || !strings.Contains(got.Reason, c.want) || got.Lost != c.lost {
			t.Errorf("%s: %+v, want %q", name, got, c.want)
		}
	}
}
