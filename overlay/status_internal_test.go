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

// Of networks that differ in encryption alone status says which one is, and what to do.
func TestRefusedForEncryption(t *testing.T) {
	ours := discovery.Network{Key: "network=app", VNI: 5000, Encrypted: true}
	theirs := ours
	theirs.Encrypted = false
	got := refusedNetworks([]discovery.Conflict{{Host: "host2", Ours: ours, Theirs: theirs}, {Host: "host3", Ours: theirs, Theirs: ours}})
	if r := got[0]; !r.Encrypted || r.TheirEncrypted || r.Advice != "make it anew, there with -o encrypted or here without" {
		t.Errorf("%+v", r)
	}
	if r := got[1]; r.Encrypted || !r.TheirEncrypted || r.Advice != "make it anew, here with -o encrypted or there without" {
		t.Errorf("%+v", r)
	}
}
