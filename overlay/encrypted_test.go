package overlay_test

import (
	"encoding/json"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/engine"
	"github.com/overlane/overlane/networks"
	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/overlay/overlaytest"
)

// wantEncrypted checks that all agree on whether the host's only network is encrypted.
func (h *host) wantEncrypted(want bool) {
	h.t.Helper()
	all := h.Status().Networks
	if len(all) != 1 {
		h.t.Fatalf("networks: %+v", all)
	}
	n := all[0]
	announced, inDatapath := h.cluster.Network(n.Key), h.datapath.Encrypted()
	if n.Encrypted != want || announced.Encrypted != want || announced.VNI != n.VNI || !maps.Equal(inDatapath, map[uint32]bool{n.VNI: want}) {
		h.t.Errorf("encrypted: status has %v, announced is %+v, the datapath has %v; want %v", n.Encrypted, announced, inDatapath, want)
	}
}

func TestEncryptedNetwork(t *testing.T) {
	for name, tc := range map[string]struct {
		encrypt bool // --encrypt
		options []string
		want    bool
	}{
		"without a value":     {false, []string{"encrypted", ""}, true},
		"true":                {false, []string{"encrypted", "true"}, true},
		"false":               {false, []string{"encrypted", "false"}, false},
		"not asked for":       {false, nil, false},
		"--encrypt":           {true, nil, true},
		"--encrypt, and true": {true, []string{"encrypted", "true"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.encrypt = tc.encrypt
			h.restart()
			s := spec(append(tc.options, "vni", "5000")...)
			h.must(h.CreateNetwork(s))
			h.wantEncrypted(tc.want)
			h.encrypt = !tc.encrypt // which is about networks that are made from then on
			h.restart()
			h.wantEncrypted(tc.want)
			h.must(h.CreateNetwork(s))
			h.wantEncrypted(tc.want)
			h.must(h.DeleteNetwork(netID))
			if left := h.datapath.Encrypted(); len(left) > 0 {
				t.Errorf("the datapath still has %v", left)
			}
		})
	}
}

func TestEncryptionIsNotSwitchedOff(t *testing.T) {
	h := newHost(t)
	h.encrypt = true
	h.restart()
	wantError(t, h.CreateNetwork(spec("vni", "5000", "encrypted", "false")), `option encrypted="false"`, "each network", "leave it out", "--encrypt (OVERLANE_ENCRYPT)")
	if n := h.Status().Networks; len(n) > 0 {
		t.Errorf("networks: %+v", n)
	}
}

// Of a cluster that lets everybody in everybody would get the keys.
func TestOpenClusterEncryptsNothing(t *testing.T) {
	h := newHost(t)
	h.must(h.CreateNetwork(spec("vni", "5000", "encrypted", "")))
	h.run(epID, "10.20.0.2")
	h.insecure = true
	h.restart()
	another := spec("vni", "6000", "encrypted", "")
	another.ID, another.Pools = otherID, pools("10.21.0.0/16")
	wantError(t, h.CreateNetwork(another), "option encrypted", "open to everybody (--insecure)", "--token", "overlane token new", "without encryption")
	if got := h.cluster.Networks(); len(got) > 0 {
		t.Errorf("the cluster has %v", got)
	}
	if !h.datapath.Encrypted()[5000] {
		t.Error("the network is plain")
	}
	s := h.Status()
	if len(s.Pending) == 0 || !strings.Contains(s.Pending[0].Reason, "the network is encrypted: its containers reach this host alone: the cluster is open") {
		t.Errorf("pending: %+v", s.Pending)
	}
	h.insecure = false
	h.restart()
	h.wantEncrypted(true)
	if own := h.cluster.Own(key); len(own) != 1 {
		t.Errorf("announced: %v", own)
	}
}

// What a swarm's manager encrypts all its nodes do.
func TestAllocatedEncryption(t *testing.T) {
	h := newHost(t)
	if got := h.allocate(netID, map[string]string{"vni": "5000", "encrypted": ""}); !maps.Equal(got, map[string]string{"vni": "5000", "encrypted": ""}) {
		t.Errorf("allocated as %v", got)
	}
	h.encrypt = true
	h.restart()
	for _, given := range []map[string]string{{"vni": "5000"}, {"network": "app"}, nil} {
		got := h.allocate(otherID, given)
		if got["encrypted"] != "true" || given["vni"] != "" && got["vni"] != given["vni"] || got["network"] != given["network"] {
			t.Errorf("%v is allocated as %v", given, got)
		}
	}
	_, err := h.AllocateNetwork(otherID, map[string]string{"encrypted": "false"})
	wantError(t, err, "--encrypt")
}

// A host without Docker takes part in a network as those do that have it.
func TestAttachTakesOverEncryption(t *testing.T) {
	has := func(name string, encrypted bool) discovery.Subscriber {
		return discovery.Subscriber{Host: name, Network: discovery.Network{Key: key, VNI: 5000, Encrypted: encrypted}}
	}
	for name, tc := range map[string]struct {
		encrypt, insecure bool
		others            []discovery.Subscriber
		want              bool
		refused           []string // empty: it is attached
	}{
		"encrypted":            {false, false, []discovery.Subscriber{has("host2", true), has("host3", true)}, true, nil},
		"plain":                {false, false, []discovery.Subscriber{has("host2", false)}, false, nil},
		"nobody's":             {false, false, nil, false, nil},
		"nobody's, --encrypt":  {true, false, nil, true, nil},
		"encrypted, --encrypt": {true, false, []discovery.Subscriber{has("host2", true)}, true, nil},
		"plain, --encrypt":     {true, false, []discovery.Subscriber{has("host2", false)}, false, []string{key, "plain on host host2", "make it anew there with -o encrypted"}},
		"they do not agree":    {false, false, []discovery.Subscriber{has("host2", false), has("host3", true)}, false, []string{key, "encrypted on host host3", "plain on host host2"}},
		"open cluster":         {false, true, []discovery.Subscriber{has("host2", true)}, false, []string{"--insecure"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.encrypt, h.insecure = tc.encrypt, tc.insecure
			h.restart()
			h.cluster.Forget()
			h.cluster.Have(tc.others...)
			a, err := h.AttachHost(overlay.AttachSpec{Network: key, Addrs: []string{"10.20.0.9/16"}})
			if len(tc.refused) > 0 {
				wantError(t, err, tc.refused...)
				if n := h.Status().Networks; len(n) > 0 {
					t.Errorf("networks: %+v", n)
				}
				return
			}
			h.must(err)
			h.wantEncrypted(tc.want)
			if mtu, want := h.datapath.Ports()[0].MTU, map[bool]int{false: 1450, true: 1408}[tc.want]; mtu != want {
				t.Errorf("MTU %d, want %d", mtu, want)
			}
			h.restart()
			h.cluster.Forget()
			h.wantEncrypted(tc.want)
			h.wantAttached(a)
		})
	}
}

// Where nobody is known to have the network, the operator may say that it is encrypted; nowhere is it joined in plain then.
func TestAttachEncrypted(t *testing.T) {
	h := newHost(t)
	h.cluster.Forget()
	wish := overlay.AttachSpec{Network: key, Addrs: []string{"10.20.0.9/16"}, Encrypted: true}
	h.cluster.Have(discovery.Subscriber{Host: "host2", Network: discovery.Network{Key: key, VNI: 5000}})
	_, err := h.AttachHost(wish)
	wantError(t, err, "plain on host host2", "to be encrypted here")
	h.cluster.Have()
	_, err = h.AttachHost(wish)
	h.must(err)
	h.wantEncrypted(true)

	plain := newHost(t)
	plain.network()
	_, err = plain.AttachHost(wish)
	wantError(t, err, "--encrypted", "plain on this host")
}

// The definition of a network that is on all hosts says whether it is encrypted.
func TestAttachToDefinedAndEncrypted(t *testing.T) {
	h := newHost(t)
	h.cluster.Forget()
	h.defined = func(name string) *networks.Definition {
		spec, err := json.Marshal(engine.Spec{
			Options: map[string]string{"everywhere": "true", "encrypted": "true"},
			IPAM:    engine.IPAM{Driver: "overlane", Config: []engine.Pool{{Subnet: "10.40.0.0/16"}}},
		})
		h.must(err)
		return &networks.Definition{Name: name, Spec: spec}
	}
	h.cluster.Have(discovery.Subscriber{Host: "host2", Network: discovery.Network{Key: "subnet=10.40.0.0/16", VNI: 5000}})
	_, err := h.AttachHost(overlay.AttachSpec{Network: "shop"})
	wantError(t, err, "plain on host host2", "to be encrypted here")
	h.cluster.Have()
	_, err = h.AttachHost(overlay.AttachSpec{Network: "shop"})
	h.must(err)
	h.wantEncrypted(true)
}

// Docker makes the network that this host is attached to as it is, or not at all.
func TestDockerMakesTheNetworkEncrypted(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		h := newHost(t)
		h.cluster.Forget()
		h.cluster.Have(discovery.Subscriber{Host: "host2", Network: discovery.Network{Key: key, VNI: 5000, Encrypted: encrypted}})
		a := h.attach(key, "10.20.0.9/16")
		alike, unlike := spec("vni", "5000", "encrypted", ""), spec("vni", "5000")
		want := []string{"it is encrypted", "create it with -o encrypted", "overlane detach vni=5000"}
		if !encrypted {
			alike, unlike = unlike, alike
			want = []string{"it is plain", "create it without -o encrypted", "overlane detach vni=5000"}
		}
		wantError(t, h.CreateNetwork(unlike), want...)
		h.wantEncrypted(encrypted)
		h.must(h.CreateNetwork(alike))
		h.wantEncrypted(encrypted)
		h.restart()
		h.cluster.Forget()
		h.must(h.DeleteNetwork(netID))
		h.wantEncrypted(encrypted)
		h.wantAttached(a)
	}
}

// What discovery has told of a network before it was made anew otherwise comes late.
func TestChangesOfTheNetworkBefore(t *testing.T) {
	h := newHost(t)
	h.must(h.CreateNetwork(spec("vni", "5000", "encrypted", "")))
	h.Observe(peerHas(false))
	h.wantTables(nil, nil, nil)
	changes := peerHas(false)
	for i := range changes {
		changes[i].Network.Encrypted = true
	}
	h.Observe(changes)
	h.Observe(peerHas(true))
	if got := h.datapath.VTEPs(); len(got) != 1 {
		t.Errorf("VTEPs: %v", got)
	}
}

// Encrypted networks leave less of a path to containers.
func TestPathOfEncryptedNetwork(t *testing.T) {
	h := newHost(t)
	h.network()
	another := spec("vni", "6000", "encrypted", "")
	another.ID, another.Pools = otherID, pools("10.21.0.0/16")
	h.must(h.CreateNetwork(another))
	for _, n := range []discovery.Network{{Key: key, VNI: 5000}, {Key: "vni=6000", VNI: 6000, Encrypted: true}} {
		h.Observe([]discovery.Change{{Network: n, Kind: discovery.KindVTEP, VTEP: overlaytest.Peer.VTEP}})
	}
	endpoint := func(network, id, addr string) {
		_, err := h.CreateEndpoint(overlay.EndpointSpec{NetworkID: network, ID: id, Addrs: []netip.Addr{netip.MustParseAddr(addr)}})
		h.must(err)
	}
	endpoint(otherID, ep2ID, "10.21.0.2")
	path := func() overlay.PathStatus { return h.Status().Paths[0] } // of 1400 bytes
	if p := path(); !strings.HasSuffix(p.Reason, "containers of encrypted networks may have 1308, and have more: vni=6000 1408") || !strings.Contains(p.Advice, "to 1500, or") || !strings.Contains(p.Advice, overlay.OptionMTU+"=1308;") {
		t.Errorf("path: %+v", p)
	}
	endpoint(netID, epID, "10.20.0.2")
	if p := path(); !strings.HasSuffix(p.Reason, "containers may have 1350, and have more: vni=5000 1450; containers of encrypted networks may have 1308, and have more: vni=6000 1408") || !strings.Contains(p.Advice, overlay.OptionMTU+"=1308;") {
		t.Errorf("path: %+v", p)
	}
}
