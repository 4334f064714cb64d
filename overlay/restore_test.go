package overlay_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/overlay/overlaytest"
)

func TestRestart(t *testing.T) {
	h := newHost(t)
	h.network()
	joined := h.run(epID, "10.20.0.2")
	h.create(ep2ID, "10.20.0.3")
	h.restart()

	if !h.datapath.Networks()[5000] || h.cluster.Networks()[0] != key {
		t.Errorf("networks: %v, %v", h.datapath.Networks(), h.cluster.Networks())
	}
	netns := map[string]string{}
	for _, p := range h.datapath.Ports() {
		netns[p.Alias] = p.Netns
	}
	if len(netns) != 2 || netns[alias] != sandbox || netns["overlane:"+ep2ID] != "" {
		t.Errorf("ports taken back: %v", netns)
	}
	if own := h.cluster.Own(key); len(own) != 1 || own[0].MAC != joined.MAC {
		t.Errorf("announced: %+v, want the joined endpoint alone", own)
	}
	h.network() // as if Docker asked again
	_, err := h.Join(netID, ep2ID, sandbox)
	h.must(err)
	h.must(h.DeleteEndpoint(netID, epID))
	h.must(h.DeleteEndpoint(netID, ep2ID))
	h.empty()
}

func TestContainerGoneMeanwhile(t *testing.T) {
	for name, happens := range map[string]func(*host){
		"it ended":             func(h *host) { h.taps.Lose(alias) },
		"it left the network ": func(h *host) { h.taps.Move(alias, "") },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.network()
			h.run(epID, "10.20.0.2")
			happens(h)
			h.restart()
			h.empty()
			h.run(ep2ID, "10.20.0.2")
		})
	}
}

// What can't be found out is no reason to take a container off its network.
func TestSandboxUnreadable(t *testing.T) {
	h := newHost(t)
	h.network()
	h.run(epID, "10.20.0.2")
	h.hasTap = func(string, string) (bool, error) { return false, errFault }
	h.restart()
	if len(h.datapath.Ports()) != 1 || len(h.cluster.Own(key)) != 1 {
		t.Errorf("ports %v, announced %v", h.datapath.Ports(), h.cluster.Own(key))
	}
}

// One endpoint that can't be taken back stops neither the start nor the others, and can be removed.
func TestTapNotTakenBack(t *testing.T) {
	h := newHost(t)
	h.network()
	h.run(epID, "10.20.0.2")
	h.must(h.Close())
	h.cluster, h.datapath = overlaytest.NewCluster(), overlaytest.NewDatapath(h.taps)
	h.datapath.Fail("AddPort", errFault)
	h.open()
	h.Attach(h.cluster)
	h.datapath.Fail("AddPort", nil)

	if s := h.Status().Endpoints[0]; s.HasPort {
		t.Errorf("status shows a port: %+v", s)
	}
	_, err := h.Join(netID, epID, sandbox)
	wantError(t, err, "eeeeeeeeeeee", "tap", "create it again")
	h.run(ep2ID, "10.20.0.3")
	h.must(h.DeleteEndpoint(netID, epID))
	if eps := h.Status().Endpoints; len(eps) != 1 || eps[0].ID != ep2ID {
		t.Errorf("endpoints: %+v", eps)
	}
}

// A network that the cluster refuses at the start goes on working on this host.
func TestRefusedAtStart(t *testing.T) {
	h := newHost(t)
	h.network()
	h.run(epID, "10.20.0.2")
	h.must(h.Close())
	h.cluster, h.datapath = overlaytest.NewCluster(), overlaytest.NewDatapath(h.taps)
	h.cluster.Fail("Participate", errFault)
	h.open()
	h.Attach(h.cluster)
	if len(h.datapath.Ports()) != 1 {
		t.Errorf("ports: %v", h.datapath.Ports())
	}
}

func TestDamagedStore(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "overlane.db")
	if err := os.WriteFile(path, make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := overlay.Open(overlay.Config{Dir: dir})
	wantError(t, err, path)
}
