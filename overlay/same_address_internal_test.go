package overlay

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/overlane/overlane/discovery"
)

func TestHostsThatAdvertiseOneAddress(t *testing.T) {
	shared, own := netip.MustParseAddrPort("10.0.2.15:7950"), netip.MustParseAddrPort("192.0.2.3:7950")
	said := map[string]Health{}
	for _, m := range byHost([]discovery.Member{
		{ID: "1", Host: "one", Addr: shared, State: discovery.StateDead},
		{ID: "2", Host: "two", Addr: shared, State: discovery.StateDead},
		{ID: "3", Host: "three", Addr: own, State: discovery.StateAlive},
		{ID: "4", Host: "three", Addr: own, State: discovery.StateDead, Replaced: true},
	}, own) {
		said[m.ID] = m.Health
		if (m.State == StateReplaced) != (m.ID == "4") {
			t.Errorf("host %s is %s", m.ID, m.State)
		}
	}
	for id, other := range map[string]string{"1": "host two advertises 10.0.2.15:7950 too", "2": "host one advertises 10.0.2.15:7950 too"} {
		if h := said[id]; !strings.Contains(h.Reason, other) || !strings.Contains(h.Advice, "--advertise") {
			t.Errorf("host %s: %+v", id, h)
		}
	}
	if said["3"] != (Health{}) || said["4"] != (Health{}) {
		t.Errorf("one that was set up anew under its name: %+v, and before %+v", said["3"], said["4"])
	}
}
