package overlay_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/names"
	"github.com/overlane/overlane/networks"
	"github.com/overlane/overlane/overlay"
)

// Each part of a status that tells of something unwell has its line, with what to do; what is well has none, nor has a host that left.
func TestProblems(t *testing.T) {
	vtep := netip.MustParseAddrPort("192.0.2.2:4789")
	noKey := overlay.Health{Reason: "no key yet", Advice: "wait"}
	s := overlay.Status{
		Node: overlay.NodeStatus{Insecure: true, Spoofable: "no nf_tables"},
		Members: []overlay.MemberStatus{
			{ID: "1", Host: "well", State: discovery.StateAlive},
			{ID: "2", Host: "down", State: discovery.StateDead, Health: overlay.Health{Reason: "it answers nothing", Advice: "start it"}},
			{ID: "3", Host: "gone", State: discovery.StateLeft, Health: overlay.Health{Reason: "it was shut down"}},
			{ID: "4", Host: "bare", State: discovery.StateAlive, Health: noKey},
		},
		Paths:      []overlay.PathStatus{{Host: "narrow", VTEP: vtep, Health: overlay.Health{Reason: "1400", Advice: "raise it"}}, {Host: "wide", VTEP: vtep}},
		Encryption: []overlay.EncryptionStatus{{ID: "4", Host: "bare", Health: noKey}, {VTEP: vtep, Health: overlay.Health{Reason: "no member"}}},
		Names:      overlay.NamesStatus{Status: names.Status{Failed: map[string]string{"/run/1": "no such file"}}, Engine: "it does not answer"},
		Endpoints:  []overlay.EndpointStatus{{}, {Endpoint: overlay.Endpoint{Names: "web alias"}, Network: "vni=1", InterfaceStatus: overlay.InterfaceStatus{Health: overlay.Health{Reason: "its interface is down", Advice: "restart it"}}}},
		Refused:    []overlay.RefusedNetwork{{Key: "vni=1", TheirKey: "network=a", TheirHost: "other", Advice: "another VNI"}},
		Everywhere: []networks.State{{Name: "app", Reason: "another subnet"}, {Name: "fine"}},
		Conflicts:  []overlay.Conflict{{Network: "vni=1", Address: "10.20.0.2", Claims: []string{"a/1", "b/2"}}},
		Pending:    []overlay.PendingStatus{{What: "MAC 02:00:00:00:00:09", Network: "vni=1", Reason: "no space", Tries: 3, Next: time.Now()}},
		Datapath:   datapath.Stats{Stuck: []int{3}, Tables: []datapath.TableStats{{Name: "neighbours", Entries: 99, Capacity: 100, NearlyFull: true}, {Name: "networks"}}},
	}
	want := []string{"cluster", "antispoof", "packet worker on CPU 3", "names", "names in /run/1", "table of neighbours", "host down is dead", "host bare is alive", "path to narrow", "encryption to 192.0.2.2:4789",
		"network network=a of host other is refused", "network app", "container web on vni=1", "address 10.20.0.2 of vni=1", "MAC 02:00:00:00:00:09 of vni=1"}
	var got []string
	for _, p := range s.Problems() {
		got = append(got, p.What)
		if p.Reason == "" {
			t.Errorf("%s: no reason", p.What)
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("unwell are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if all := (&overlay.Status{}).Problems(); all == nil || len(all) != 0 {
		t.Errorf("where all is well: %#v", all)
	}
}
