package overlay

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/overlane/overlane/discovery"
)

// A host that was set up anew is named once, whatever its older nodes at the same VTEP are.
func TestHostsAtVTEPs(t *testing.T) {
	a, b := netip.MustParseAddrPort("192.0.2.1:4789"), netip.MustParseAddrPort("192.0.2.2:4789")
	members := []discovery.Member{
		{Host: "left", VTEP: a, State: discovery.StateLeft},
		{Host: "dead", VTEP: a, State: discovery.StateDead},
		{Host: "alpha", VTEP: a, State: discovery.StateAlive},
		{Host: "beta", VTEP: b, State: discovery.StateAlive},
	}
	if got := hostsAt(members, func(vtep netip.AddrPort) bool { return vtep == a }); !slices.Equal(got, []string{"alpha"}) {
		t.Errorf("hosts at %s: %v", a, got)
	}
}
