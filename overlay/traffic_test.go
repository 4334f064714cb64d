package overlay_test

import (
	"reflect"
	"testing"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/overlay/overlaytest"
)

// What the pipeline has received from a container is what that sent; both are told by name, once the name is known.
func TestTrafficHasNames(t *testing.T) {
	h := newHost(t)
	h.network()
	h.run(epID, "10.20.0.2")
	drops := map[string]uint64{"spoofed_ip": 9}
	counted := func() ([]overlay.EndpointTraffic, []overlay.HostTraffic) {
		s := h.datapath.Stats()
		s.Ports[0].Traffic = datapath.Traffic{RxPackets: 1, RxBytes: 2, TxPackets: 3, TxBytes: 4}
		s.Ports[0].Drops = drops
		s.Paths[0].Traffic = datapath.Traffic{RxPackets: 5, RxBytes: 6, TxPackets: 7, TxBytes: 8}
		return h.TrafficOf(s)
	}
	want := datapath.Traffic{RxPackets: 3, RxBytes: 4, TxPackets: 1, TxBytes: 2}
	endpoints, hosts := counted()
	if len(endpoints) != 1 || !reflect.DeepEqual(endpoints[0], overlay.EndpointTraffic{Network: key, Endpoint: epID[:12], Traffic: want, Drops: drops}) {
		t.Errorf("before names are known: %+v", endpoints)
	}
	if len(hosts) != 1 || hosts[0] != (overlay.HostTraffic{Host: overlaytest.Peer.Host, VTEP: overlaytest.Peer.VTEP, Traffic: datapath.Traffic{RxPackets: 5, RxBytes: 6, TxPackets: 7, TxBytes: 8}}) {
		t.Errorf("hosts: %+v", hosts)
	}
	s := datapath.Stats{Networks: []datapath.NetworkStats{{VNI: h.Status().Networks[0].VNI, Traffic: datapath.Traffic{RxPackets: 1, RxBytes: 2, TxPackets: 3, TxBytes: 4}}}}
	if sums := h.NetworkTraffic(s); len(sums) != 1 || sums[key] != want {
		t.Errorf("networks: %+v", sums)
	}
	h.NameNetwork(netID, "app")
	h.NameContainer(netID, epID, []string{"web", "alias"})
	if endpoints, _ := counted(); len(endpoints) != 1 || !reflect.DeepEqual(endpoints[0], overlay.EndpointTraffic{Network: "app", Endpoint: "web", Traffic: want, Drops: drops}) {
		t.Errorf("with names: %+v", endpoints)
	}
}
