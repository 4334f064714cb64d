package overlay_test

import (
	"encoding/json"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/engine"
	"github.com/overlane/overlane/networks"
	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/overlay/overlaytest"
)

// attach attaches the host.
func (h *host) attach(network string, addrs ...string) overlay.Attachment {
	h.t.Helper()
	a, err := h.AttachHost(overlay.AttachSpec{Network: network, Addrs: addrs})
	h.must(err)
	return a
}

// pooled has Docker make network netID of a subnet whose addresses overlane hands out.
func (h *host) pooled() {
	h.t.Helper()
	h.cluster.Forget()
	subnet := netip.MustParsePrefix("10.20.0.0/16")
	_, _, err := h.RequestPool(overlay.PoolSpec{Subnet: subnet})
	h.must(err)
	h.must(h.CreateNetwork(overlay.NetworkSpec{ID: netID, Pools: []netip.Prefix{subnet}}))
}

func (h *host) leases() (all []string) {
	for _, l := range h.Addresses().Leases {
		all = append(all, l.Addr.String())
	}
	return all
}

// wantAttached checks that the attachment works, and is kept apart from other networks.
func (h *host) wantAttached(a overlay.Attachment) {
	h.t.Helper()
	all := h.Attachments()
	if len(all) != 1 || all[0].Lacks != "" || all[0].Interface != a.Interface || !slices.Equal(all[0].Addrs, a.Addrs) || all[0].MAC != a.MAC {
		h.t.Fatalf("attachments: %+v, want %+v", all, a)
	}
	if i, up := h.own.Interfaces()[a.Interface]; !up || !slices.Equal(i.Addrs, a.Addrs) {
		h.t.Errorf("interfaces: %+v, want %s", h.own.Interfaces(), a.Interface)
	}
	if !slices.Equal(h.own.Isolated(), []string{a.Interface}) {
		h.t.Errorf("kept apart: %v", h.own.Isolated())
	}
	own := h.cluster.Own(a.Network)
	if len(own) != 1 || own[0].MAC != a.MAC || own[0].Names != a.Names || len(own[0].Addrs) != len(a.Addrs) {
		h.t.Errorf("announced: %+v", own)
	}
	ports := h.datapath.Ports()
	if len(ports) != 1 || ports[0].Name != a.Interface || ports[0].Netns != "" || ports[0].Trust != datapath.TrustNone || len(ports[0].Addrs) != len(a.Addrs) {
		h.t.Errorf("ports: %+v", ports)
	}
}

// wantDetached checks that nothing is left.
func (h *host) wantDetached() {
	h.t.Helper()
	h.empty()
	if all := h.Attachments(); len(all) > 0 {
		h.t.Errorf("attachments: %+v", all)
	}
	if len(h.own.Interfaces()) > 0 || len(h.own.Isolated()) > 0 || len(h.own.Found()) > 0 {
		h.t.Errorf("interfaces %v, kept apart %v, names %v", h.own.Interfaces(), h.own.Isolated(), h.own.Found())
	}
	if leases := h.leases(); len(leases) > 0 {
		h.t.Errorf("addresses in use: %v", leases)
	}
}

// A host is attached to a network that Docker made, has its address until it is detached, and is found by name.
func TestAttach(t *testing.T) {
	h := newHost(t)
	h.pooled()
	h.NameNetwork(netID, "app")
	a := h.attach("app")
	if a.Interface != "ol-app" || len(a.Addrs) != 1 || a.Addrs[0].Bits() != 16 || a.Names != "host1" || a.Network != "subnet=10.20.0.0/16" {
		t.Errorf("attached: %+v", a)
	}
	h.wantAttached(a)
	if leases := h.leases(); !slices.Equal(leases, []string{a.Addrs[0].Addr().String()}) {
		t.Errorf("leases: %v", leases)
	}
	h.run(epID, "10.20.0.200")
	h.NameContainer(netID, epID, []string{"db", "Host1", "db.example.com"})
	wait(t, "the host finds a container", func() bool {
		found := h.own.Found()
		return len(found["db"]) == 1 && len(found["db.app"]) == 1 && len(found["host1.app"]) == 1
	})
	if found := h.own.Found(); found["db.example.com"] != nil || found["Host1"] != nil || found["host1"] != nil {
		t.Errorf("names of hosts elsewhere: %v", found)
	}
	h.must(h.DeleteEndpoint(netID, epID))

	for _, again := range []string{"app", netID, netID[:12], "subnet=10.20.0.0/16", "10.20.0.0/16"} {
		if same := h.attach(again); same.Interface != a.Interface {
			t.Errorf("attached again as %+v", same)
		}
	}
	_, err := h.AttachHost(overlay.AttachSpec{Network: "app", Name: "other"})
	wantError(t, err, "attached to it already", "overlane detach")
	_, err = h.AttachHost(overlay.AttachSpec{Network: "app", Addrs: []string{"10.20.7.7"}})
	wantError(t, err, "attached to it already", a.Addrs[0].String())

	h.restart()
	h.cluster.Forget()
	h.wantAttached(a)
	_, err = h.DetachHost("app")
	wantError(t, err, `network app: this host is not attached`) // Docker's engine has yet to say what it is called
	_, err = h.DetachHost("ol-app")
	h.must(err)
	h.wantDetached()
	_, err = h.DetachHost("10.20.0.0/16")
	wantError(t, err, "not attached")
	if len(h.Status().Networks) != 1 {
		t.Error("Docker's network is gone")
	}
}

// Without Docker a host takes part in a network for its attachment alone, and no longer than that.
func TestAttachWithoutDocker(t *testing.T) {
	h := newHost(t)
	h.cluster.Forget()
	a, err := h.AttachHost(overlay.AttachSpec{Network: "network=app", Addrs: []string{"10.20.0.9/16", "fd00::9/64"}, Name: "db"})
	h.must(err)
	if a.Interface != "ol-app" || a.Names != "db" || a.Called != "app" || len(a.Addrs) != 2 {
		t.Errorf("attached: %+v", a)
	}
	h.wantAttached(a)
	h.restart()
	h.cluster.Forget()
	h.wantAttached(a)
	wait(t, "names", func() bool { return len(h.own.Found()["db.app"]) == 2 })
	_, err = h.DetachHost("app")
	h.must(err)
	h.wantDetached()
	if s := h.Status(); len(s.Networks) > 0 || len(h.cluster.Networks()) > 0 || len(h.datapath.Networks()) > 0 {
		t.Errorf("networks left: %v, %v, %v", s.Networks, h.cluster.Networks(), h.datapath.Networks())
	}
}

// A network that is on all hosts has its name everywhere, also where no Docker makes it.
func TestAttachToDefined(t *testing.T) {
	for driver, spec := range map[string]overlay.AttachSpec{
		"overlane": {Network: "shop"}, "default": {Network: "shop", Addrs: []string{"10.40.0.9"}},
	} {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t)
			h.cluster.Forget()
			h.defined = func(name string) *networks.Definition {
				if name != "shop" {
					return nil
				}
				spec, err := json.Marshal(engine.Spec{
					Options: map[string]string{"everywhere": "true", "com.docker.network.driver.mtu": "1300"},
					IPAM:    engine.IPAM{Driver: driver, Config: []engine.Pool{{Subnet: "10.40.0.0/16", Gateway: "10.40.0.1", AuxiliaryAddresses: map[string]string{"router": "10.40.0.2"}}}},
				})
				h.must(err)
				return &networks.Definition{Name: name, Spec: spec}
			}
			a, err := h.AttachHost(spec)
			h.must(err)
			if addr := a.Addrs[0].String(); a.Network != "subnet=10.40.0.0/16" || a.Called != "shop" || a.Interface != "ol-shop" || addr == "10.40.0.1/16" || addr == "10.40.0.2/16" {
				t.Errorf("attached: %+v", a)
			}
			h.wantAttached(a)
			if mtu := h.datapath.Ports()[0].MTU; mtu != 1300 {
				t.Errorf("MTU %d", mtu)
			}
			h.restart()
			h.cluster.Forget()
			if same := h.attach("shop"); same.Interface != a.Interface || same.Called != "shop" {
				t.Errorf("after a restart: %+v", same)
			}
			_, err = h.DetachHost("shop")
			h.must(err)
			h.empty()
			if left := h.Addresses().Pools; len(left) > 0 && left[0].State == "ready" {
				t.Errorf("pools left: %+v", left)
			}
		})
	}
}

// What can't be is refused in words, and leaves nothing.
func TestAttachRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spec  overlay.AttachSpec
		setUp func(*host)
		want  []string
	}{
		"no network":         {overlay.AttachSpec{Network: "nosuch"}, nil, []string{`"nosuch"`, "subnet=10.20.0.0/16", "overlane status"}},
		"empty":              {overlay.AttachSpec{}, nil, []string{`network ""`}},
		"bad key":            {overlay.AttachSpec{Network: "vni=0"}, nil, []string{`vni="0"`}},
		"bad address":        {overlay.AttachSpec{Network: key, Addrs: []string{"10.20.0"}}, nil, []string{`--address "10.20.0"`, "10.20.0.9/16"}},
		"two of IPv4":        {overlay.AttachSpec{Network: key, Addrs: []string{"10.20.0.1", "10.20.0.2"}}, nil, []string{"10.20.0.2", "at most"}},
		"no host's address":  {overlay.AttachSpec{Network: key, Addrs: []string{"127.0.0.1/8"}}, nil, []string{"127.0.0.1/8"}},
		"bad name":           {overlay.AttachSpec{Network: key, Addrs: []string{"10.20.0.9"}, Name: "a b"}, nil, []string{`--name "a b"`}},
		"subnet not known":   {overlay.AttachSpec{Network: "network=x"}, nil, []string{"network=x", "--address ADDRESS/LENGTH"}},
		"Docker's addresses": {overlay.AttachSpec{Network: key}, nil, []string{key, "--address", "10.20.0.0/16"}},
		"not of the subnet":  {overlay.AttachSpec{Network: key, Addrs: []string{"10.21.0.9"}}, nil, []string{"--address 10.21.0.9", "10.20.0.0/16"}},
		"another length":     {overlay.AttachSpec{Network: key, Addrs: []string{"10.20.0.9/24"}}, nil, []string{"10.20.0.9/24", "10.20.0.0/16"}},
		"another host's": {overlay.AttachSpec{Network: key, Addrs: []string{"10.20.0.9"}},
			func(h *host) { h.cluster.Announce(rival("02:42:0a:14:00:09", "10.20.0.9", 0, false)) }, []string{"10.20.0.9", "22222222", "with --address"}},
		"a container's": {overlay.AttachSpec{Network: key, Addrs: []string{"10.20.0.9"}},
			func(h *host) { h.run(epID, "10.20.0.9") }, []string{"10.20.0.9", "eeeeeeeeeeee"}},
		"a starting container's": {overlay.AttachSpec{Network: key, Addrs: []string{"10.20.0.9"}}, func(h *host) {
			_, err := h.CreateEndpoint(overlay.EndpointSpec{NetworkID: netID, ID: epID, Addrs: []netip.Addr{netip.MustParseAddr("10.20.0.9")}})
			h.must(err)
		}, []string{"10.20.0.9", "eeeeeeeeeeee"}},
		"cluster's own subnet": {overlay.AttachSpec{Network: "subnet=192.0.2.0/24", Addrs: []string{"192.0.2.200"}}, nil, []string{"subnet 192.0.2.0/24", "of the cluster"}},
		"route": {overlay.AttachSpec{Network: key, Addrs: []string{"10.20.0.9"}},
			func(h *host) { h.own.Route(netip.MustParsePrefix("10.0.0.0/8"), "tun0") }, []string{"10.20.0.0/16", "10.0.0.0/8", "tun0"}},
		"isolation fails": {overlay.AttachSpec{Network: key, Addrs: []string{"10.20.0.9"}},
			func(h *host) { h.own.Fail("Isolate", errFault) }, []string{errFault.Error()}},
		"interface fails": {overlay.AttachSpec{Network: key, Addrs: []string{"10.20.0.9"}},
			func(h *host) { h.own.Fail("SetUp", errFault) }, []string{errFault.Error()}},
		"port fails": {overlay.AttachSpec{Network: key, Addrs: []string{"10.20.0.9"}},
			func(h *host) { h.datapath.Fail("AddPort", errFault) }, []string{errFault.Error()}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.cluster.Forget()
			h.network()
			if c.setUp != nil {
				c.setUp(h)
			}
			before := len(h.datapath.Ports())
			_, err := h.AttachHost(c.spec)
			wantError(t, err, c.want...)
			if all, ports := h.Attachments(), h.datapath.Ports(); len(all) > 0 || len(ports) != before || len(h.own.Interfaces()) > 0 || len(h.Status().Networks) != 1 {
				t.Errorf("left: %+v, %+v, %+v, networks %+v", all, ports, h.own.Interfaces(), h.Status().Networks)
			}
			h.own.Fail("Isolate", nil)
			h.restart()
			if s := h.Status(); len(h.Attachments()) > 0 || len(s.Networks) != 1 {
				t.Errorf("after a restart: %+v, %+v", h.Attachments(), s.Networks)
			}
		})
	}
}

// A host on which IPv6 is off gets an address of IPv4 alone, and none where there is no other.
func TestAttachWithoutIPv6(t *testing.T) {
	h := newHost(t)
	h.cluster.Forget()
	h.own.Fail("HasIPv6", errFault)
	_, err := h.AttachHost(overlay.AttachSpec{Network: "network=app", Addrs: []string{"10.20.0.9/16", "fd00::9/64"}})
	wantError(t, err, "--address fd00::9", "disable_ipv6")
	h.wantDetached()
	for i, pool := range []string{"10.20.0.0/16", "fd00::/64"} {
		_, _, err := h.RequestPool(overlay.PoolSpec{Subnet: netip.MustParsePrefix(pool), V6: i == 1})
		h.must(err)
	}
	h.must(h.CreateNetwork(overlay.NetworkSpec{ID: netID, Pools: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16"), netip.MustParsePrefix("fd00::/64")}}))
	if a := h.attach(netID); len(a.Addrs) != 1 || !a.Addrs[0].Addr().Is4() {
		t.Errorf("attached: %+v", a)
	}
	_, err = h.CreateEndpoint(overlay.EndpointSpec{NetworkID: netID, ID: epID, Addrs: []netip.Addr{netip.MustParseAddr("10.20.0.200"), netip.MustParseAddr("fd00::200")}})
	h.must(err)
	_, err = h.Join(netID, epID, sandbox)
	h.must(err)
	h.NameContainer(netID, epID, []string{"db"})
	wait(t, "the host finds a container", func() bool { return len(h.own.Found()["db"]) > 0 })
	if at := h.own.Found()["db"]; len(at) != 1 || !at[0].Is4() {
		t.Errorf("db is at %v, of which this host reaches none but that of IPv4", at)
	}
}

// A host is on both IP versions, where the network is.
func TestAttachDualStack(t *testing.T) {
	h := newHost(t)
	h.cluster.Forget()
	for i, pool := range []string{"10.20.0.0/16", "fd00::/64"} {
		_, _, err := h.RequestPool(overlay.PoolSpec{Subnet: netip.MustParsePrefix(pool), V6: i == 1})
		h.must(err)
	}
	h.must(h.CreateNetwork(overlay.NetworkSpec{ID: netID, Pools: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16"), netip.MustParsePrefix("fd00::/64")}}))
	a := h.attach(netID)
	if len(a.Addrs) != 2 || len(h.leases()) != 2 {
		t.Errorf("attached: %+v, leases %v", a, h.leases())
	}
	h.wantAttached(a)
	_, err := h.DetachHost(netID)
	h.must(err)
	h.wantDetached()
}

// A network without a subnet, as of Docker's null driver, gives no default route.
func TestAttachWithoutSubnet(t *testing.T) {
	h := newHost(t)
	h.must(h.CreateNetwork(overlay.NetworkSpec{ID: netID, Options: map[string]string{"vni": "5000"}, Pools: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}))
	_, err := h.AttachHost(overlay.AttachSpec{Network: key, Addrs: []string{"10.20.0.9"}})
	wantError(t, err, "10.20.0.9", "prefix length")
	if a := h.attach(key, "10.20.0.9/24"); a.Addrs[0].String() != "10.20.0.9/24" {
		t.Errorf("attached: %+v", a)
	}
}

// No container starts with the address of its own host.
func TestAddressOfAttachment(t *testing.T) {
	h := newHost(t)
	h.network()
	h.attach(key, "10.20.0.9")
	_, err := h.CreateEndpoint(endpointSpec(epID, "10.20.0.9"))
	wantError(t, err, "10.20.0.9", "overlane attach")
}

// Without what keeps other networks' containers out there is no interface; it comes when that can be.
func TestNoInterfaceWithoutIsolation(t *testing.T) {
	h := newHost(t)
	h.network()
	a := h.attach(key, "10.20.0.9")
	h.must(h.Close())
	h.taps.Lose("overlane:" + h.Status().Endpoints[0].ID) // as a reboot does
	h.own.Fail("Isolate", errFault)
	h.start()
	if all := h.Attachments(); len(h.datapath.Ports()) > 0 || len(all) != 1 || !strings.Contains(all[0].Lacks, errFault.Error()) {
		t.Errorf("ports %+v, attachments %+v", h.datapath.Ports(), all)
	}
	h.own.Fail("Isolate", nil)
	wait(t, "the attachment", func() bool { return h.Attachments()[0].Lacks == "" })
	h.wantAttached(a)
}

// Where the names can't be written, what the attachment lacks is said.
func TestNamesNotWritten(t *testing.T) {
	h := newHost(t)
	h.network()
	h.own.Fail("WriteNames", errFault)
	_, err := h.AttachHost(overlay.AttachSpec{Network: key, Addrs: []string{"10.20.0.9"}, Name: "db"})
	h.must(err)
	if all := h.Attachments(); !strings.Contains(all[0].Lacks, errFault.Error()) {
		t.Errorf("attachments: %+v", all)
	}
	h.own.Fail("WriteNames", nil)
	wait(t, "names", func() bool { return h.Attachments()[0].Lacks == "" && len(h.own.Found()["db"]) == 1 })
}

// An interface that somebody removed is made anew.
func TestInterfaceRemoved(t *testing.T) {
	h := newHost(t)
	h.network()
	a := h.attach(key, "10.20.0.9")
	h.own.Lose(a.Interface)
	wait(t, "the interface", func() bool { return len(h.own.Interfaces()) == 1 })
	h.wantAttached(a)
}

// Docker makes the network that this host is attached to, and removes it: the host stays attached, also over restarts.
func TestDockerMakesAndRemovesTheNetwork(t *testing.T) {
	h := newHost(t)
	h.cluster.Forget()
	a := h.attach(key, "10.20.0.9/16")
	h.network()
	h.wantAttached(a)
	h.run(epID, "10.20.0.2")
	if s := h.Status(); len(s.Networks) != 1 || s.Networks[0].ID != netID || len(s.Endpoints) != 2 {
		t.Errorf("networks %+v, endpoints %+v", s.Networks, s.Endpoints)
	}
	h.restart()
	if s := h.Status(); len(s.Networks) != 1 || s.Networks[0].ID != netID || len(s.Endpoints) != 2 || len(h.Attachments()) != 1 {
		t.Errorf("after a restart: networks %+v, endpoints %+v", s.Networks, s.Endpoints)
	}
	h.must(h.DeleteEndpoint(netID, epID))
	h.must(h.DeleteNetwork(netID))
	h.wantAttached(a)
	h.restart()
	h.wantAttached(a)
	h.network()
	_, err := h.DetachHost(key)
	h.must(err)
	h.wantDetached()
	if s := h.Status(); len(s.Networks) != 1 || s.Networks[0].ID != netID {
		t.Errorf("networks %+v", s.Networks)
	}
}

// A network of another subnet than the attachment's is not the same one.
func TestDockerMakesTheNetworkOtherwise(t *testing.T) {
	h := newHost(t)
	h.cluster.Forget()
	h.attach(key, "10.21.0.9/16")
	wantError(t, h.CreateNetwork(spec("vni", "5000")), "10.21.0.9/16", "overlane detach")
}

// A host that leaves for good is attached no more; one with containers does not leave, and stays attached.
func TestLeaveEndsAttachments(t *testing.T) {
	h := newHost(t)
	h.pooled()
	h.attach("subnet=10.20.0.0/16")
	h.run(epID, "10.20.0.200")
	if h.LeaveAddresses() == nil || len(h.Attachments()) != 1 {
		t.Errorf("it left with a container: %+v", h.Attachments())
	}
	h.must(h.DeleteEndpoint(netID, epID))
	h.must(h.LeaveAddresses())
	h.wantDetached()
}

// killWhileAttaching starts anew the daemon of a host that is attached, as if it had been killed before the endpoint was on disk.
func (h *host) killWhileAttaching() {
	h.t.Helper()
	id := h.Status().Endpoints[0].ID
	h.must(h.Close())
	h.taps.Lose("overlane:" + id)
	db, err := bbolt.Open(filepath.Join(h.dir, "overlane.db"), 0o600, nil)
	h.must(err)
	h.must(db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("endpoints")).Delete([]byte(id)) }))
	h.must(db.Close())
	h.must(h.own.Isolate(nil)) // goes with the daemon
	h.start()
}

// waitForgotten waits until a daemon that came back has given up the network, its pool and the names of its containers, in whatever order.
func (h *host) waitForgotten() {
	h.t.Helper()
	wait(h.t, "the network, its pool and its names are gone", func() bool {
		return len(h.Status().Networks) == 0 && len(h.Addresses().Pools) == 0 && len(h.own.Found()) == 0
	})
}

// A daemon that is killed while it attaches its host leaves no network for good.
func TestKilledWhileAttaching(t *testing.T) {
	h := newHost(t)
	h.cluster.Forget()
	h.attach("network=app", "10.20.0.9/16")
	h.killWhileAttaching()
	h.waitForgotten()
	h.wantDetached()
}

// Likewise where it had an address of overlane's: that is free again, and so is its subnet.
func TestKilledWhileAttachingWithAnAddressOfThePool(t *testing.T) {
	h := newHost(t)
	h.cluster.Forget()
	h.defined = func(name string) *networks.Definition {
		spec, err := json.Marshal(engine.Spec{Options: map[string]string{"everywhere": "true"}, IPAM: engine.IPAM{Driver: "overlane", Config: []engine.Pool{{Subnet: "10.40.0.0/16"}}}})
		h.must(err)
		return &networks.Definition{Name: name, Spec: spec}
	}
	h.attach("shop")
	h.killWhileAttaching()
	h.cluster.Forget()
	h.waitForgotten()
	h.wantDetached()
}

// Two networks with names alike get interfaces of their own, with names as long as the kernel takes them.
func TestInterfaceNames(t *testing.T) {
	h := newHost(t)
	h.cluster.Forget()
	for i, c := range []struct{ network, want string }{
		{"network=a-very-long-name", "ol-a-very-long"}, {"network=a-very-long-name-too", "ol-a-very-lon-2"}, {"172.20.110.0/24", "ol-172-20-110-0"}, {"vni=7", "ol-7"}, {"network=x.y_z", "ol-x-y-z"},
	} {
		addr := netip.AddrFrom4([4]byte{172, 20, byte(100 + i), 9})
		if c.network == "172.20.110.0/24" {
			addr = netip.MustParseAddr("172.20.110.9")
		}
		a := h.attach(c.network, addr.String()+"/24")
		if a.Interface != c.want || len(a.Interface) > 15 {
			t.Errorf("%s: %s, want %s", c.network, a.Interface, c.want)
		}
	}
	gone, err := h.DetachAll()
	h.must(err)
	if len(gone) != 5 {
		t.Errorf("detached: %+v", gone)
	}
	h.wantDetached()
}

// Names of a network that this host is not attached to are not found by it.
func TestNamesOfOtherNetworks(t *testing.T) {
	h := newHost(t)
	h.cluster.Forget()
	h.network()
	h.attach("network=app", "10.30.0.9/16")
	h.run(epID, "10.20.0.2")
	h.NameContainer(netID, epID, []string{"secret"})
	h.cluster.Announce(discovery.Record{
		Network:  discovery.Network{Key: "network=app", VNI: h.cluster.Resolve("network=app")},
		Endpoint: discovery.Endpoint{ID: "d", MAC: discovery.MAC{2, 0, 0, 0, 0, 9}, Addrs: []netip.Addr{netip.MustParseAddr("10.30.0.2")}, Names: "web"},
	})
	h.Observe([]discovery.Change{
		{Network: discovery.Network{Key: "network=app"}, Kind: discovery.KindNames, VTEP: overlaytest.Peer.VTEP, MAC: discovery.MAC{2, 0, 0, 0, 0, 9}, Names: "web"},
		{Network: discovery.Network{Key: "network=app"}, Kind: discovery.KindAddr, VTEP: overlaytest.Peer.VTEP, MAC: discovery.MAC{2, 0, 0, 0, 0, 9}, Addr: netip.MustParseAddr("10.30.0.2")},
	})
	wait(t, "names", func() bool { return len(h.own.Found()["web"]) == 1 })
	if found := h.own.Found(); found["secret"] != nil || found["secret.app"] != nil {
		t.Errorf("found: %v", found)
	}
}
