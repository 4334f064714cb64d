package overlay_test

import (
	"fmt"
	"maps"
	"testing"
)

func (h *host) allocate(id string, given map[string]string) map[string]string {
	h.t.Helper()
	options, err := h.AllocateNetwork(id, given)
	h.must(err)
	return options
}

// The daemon of a manager that leads is started again: what it allocated stays, and is not allocated twice.
func TestAllocationOutlivesTheDaemon(t *testing.T) {
	h := newHost(t)
	options := h.allocate("net1", nil)
	h.allocate("taken", map[string]string{"vni": fmt.Sprint(h.cluster.Resolve("swarm=net2/0"))})
	h.restart()
	if again := h.allocate("net1", nil); !maps.Equal(again, options) {
		t.Errorf("allocated as %v, and after a restart as %v", options, again)
	}
	taken := fmt.Sprint(h.cluster.Resolve("swarm=net2/0"))
	if got := h.allocate("net2", nil)["vni"]; got == taken {
		t.Errorf("VNI %s is allocated twice", got)
	}
	h.must(h.FreeNetwork("taken"))
	h.must(h.FreeNetwork("net2"))
	if got := h.allocate("net2", nil)["vni"]; got != taken {
		t.Errorf("got VNI %s, want %s, which was freed", got, taken)
	}
}

// Another manager may have freed it: what the user asks for is not refused.
func TestAllocatedVNIMayBeAskedFor(t *testing.T) {
	h := newHost(t)
	h.allocate("net1", map[string]string{"vni": "5000"})
	if options := h.allocate("net2", map[string]string{"vni": "5000"}); options["vni"] != "5000" {
		t.Errorf("got %v", options)
	}
}

func TestAllocationErrors(t *testing.T) {
	h := newHost(t)
	for want, given := range map[string]map[string]string{
		`option colour="blue": unknown option`:                          {"colour": "blue"},
		`option vni="5000": can't be given together with network="app"`: {"vni": "5000", "network": "app"},
		`option vni="16777216": want a number from 1 to 16777215`:       {"vni": "16777216"},
	} {
		_, err := h.AllocateNetwork("net1", given)
		wantError(t, err, want)
	}
}
