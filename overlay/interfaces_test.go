package overlay_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/overlay"
)

// A container whose interface somebody changed is named after two looks, with what was changed; one that has the address elsewhere, or more
// of them, is well, and so is one that has it again.
func TestInterfaceInContainer(t *testing.T) {
	h := newHost(t)
	h.network()
	h.run(epID, "10.20.0.2")
	other := netip.MustParseAddr("10.20.9.9")
	health := func(change func(*datapath.TapState)) (h1, h2 overlay.Health) {
		h.datapath.ChangeTaps(change)
		h.LookAtInterfaces()
		h1 = h.Status().Endpoints[0].Health
		h.LookAtInterfaces()
		return h1, h.Status().Endpoints[0].Health
	}
	for name, c := range map[string]struct {
		change func(*datapath.TapState)
		want   string // empty: it is well
	}{
		"as it was":          {nil, ""},
		"no address":         {func(s *datapath.TapState) { s.Addrs = nil }, "eth0 has lost address 10.20.0.2"},
		"another address":    {func(s *datapath.TapState) { s.Addrs = []netip.Addr{other} }, "eth0 has lost address 10.20.0.2"},
		"one more":           {func(s *datapath.TapState) { s.Addrs = append(s.Addrs, other) }, ""},
		"on a bridge within": {func(s *datapath.TapState) { s.Addrs, s.Others = nil, s.Addrs }, ""},
		"another MAC":        {func(s *datapath.TapState) { s.MAC[5]++ }, "spoofed_mac"},
		"down":               {func(s *datapath.TapState) { s.Up = false }, "eth0 is down"},
		"renamed":            {func(s *datapath.TapState) { s.Name, s.Up = "wan0", false }, "wan0 is down"},
	} {
		first, second := health(c.change)
		if first != (overlay.Health{}) {
			t.Errorf("%s: one look says %+v", name, first)
		}
		if (second.Reason == "") != (c.want == "") || !strings.Contains(second.Reason, c.want) || (second.Advice == "") != (c.want == "") {
			t.Errorf("%s: %+v, want %q", name, second, c.want)
		}
		if problems := h.ContainerProblems(); (len(problems) == 1) != (c.want != "") {
			t.Errorf("%s: %+v", name, problems)
		}
		h.LookAtInterfaces()
		if _, now := health(nil); now.Reason != "" {
			t.Errorf("%s: well again, and %+v", name, now)
		}
	}
	health(func(s *datapath.TapState) { s.Up = false })
	h.must(h.Leave(netID, epID))
	if problems := h.ContainerProblems(); len(problems) > 0 {
		t.Errorf("of a container that left: %+v", problems)
	}
}
