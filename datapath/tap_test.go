package datapath_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/overlane/overlane/datapath"
)

func TestHasTap(t *testing.T) {
	must(t, plane.AddNetwork(vni))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	container(t, boxSpace, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24")
	plain := filepath.Join(t.TempDir(), "plain")
	must(t, os.WriteFile(plain, nil, 0o600))
	for name, c := range map[string]struct {
		path, alias string
		want        bool
	}{
		"there":                {"/run/netns/" + boxSpace, "test:ovtest0", true},
		"another alias":        {"/run/netns/" + boxSpace, "test:ovtest1", false},
		"namespace is gone":    {plain + "x", "test:ovtest0", false},
		"namespace is unbound": {plain, "test:ovtest0", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := datapath.HasTap(c.path, c.alias); err != nil || got != c.want {
				t.Errorf("got %v (%v), want %v", got, err, c.want)
			}
		})
	}
}

func TestPorts(t *testing.T) {
	must(t, plane.AddNetwork(vni))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	good := datapath.PortConfig{Name: "ovtest0", Alias: "test:ovtest0", VNI: vni, MAC: parseMAC(hostMAC), MTU: innerMTU, Addrs: []netip.Addr{netip.MustParseAddr(hostIP4)}}
	add := func(c datapath.PortConfig) (id datapath.PortID, err error) {
		onHost(func() { id, err = plane.AddPort(c) })
		return id, err
	}
	id, err := add(good)
	must(t, err)
	if again, err := add(good); err != nil || again != id {
		t.Errorf("the same port again is %d (%v), want %d", again, err, id)
	}
	if taps := run(t, hostSpace, "ip -br link show ovtest0 | wc -l"); taps != "1" {
		t.Errorf("%s taps, want 1", taps)
	}
	for want, change := range map[string]func(*datapath.PortConfig){
		`port name "a-name-of-sixteen": want 1 to 15`: func(c *datapath.PortConfig) { c.Name = "a-name-of-sixteen" },
		"alias is empty":                     func(c *datapath.PortConfig) { c.Alias = "" },
		"MAC 01:00:00:00:00:00: want a uni":  func(c *datapath.PortConfig) { c.MAC = datapath.MAC{1} },
		"MTU 67: want 68 to":                 func(c *datapath.PortConfig) { c.MTU = 67 },
		"address 224.0.0.1: want a unicast":  func(c *datapath.PortConfig) { c.Addrs = []netip.Addr{netip.MustParseAddr("224.0.0.1")} },
		"10.62.0.2: a port has one address":  func(c *datapath.PortConfig) { c.Addrs = append(c.Addrs, netip.MustParseAddr("10.62.0.2")) },
		"VNI 0: want 1 to 16777215":          func(c *datapath.PortConfig) { c.VNI = 0 },
		"VNI 7: no such network":             func(c *datapath.PortConfig) { c.VNI = 7 },
		"MAC 02:42:0a:3e:00:01 is port ovte": func(c *datapath.PortConfig) { c.Alias = "test:other" },
		"tap is gone": func(c *datapath.PortConfig) {
			c.Alias, c.MAC, c.Netns = "test:other", parseMAC(secondMAC), "/run/netns/"+boxSpace
		},
	} {
		bad := good
		change(&bad)
		if _, err := add(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %q, want %q", err, want)
		}
	}
	if err := plane.DelNetwork(vni); err == nil || !strings.Contains(err.Error(), "1 ports are left") {
		t.Errorf("a network with a port was removed: %v", err)
	}
	for range 2 {
		onHost(func() { must(t, plane.DelPort(id)) })
	}
	if out := run(t, hostSpace, "ip -br link show ovtest0 2>&1 || true"); !strings.Contains(out, "does not exist") {
		t.Errorf("the tap is left: %s", out)
	}
}

// A port whose tap is in no namespace is told apart from other failures.
func TestTapGone(t *testing.T) {
	must(t, plane.AddNetwork(vni))
	t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
	_, err := plane.AddPort(datapath.PortConfig{Name: "ovtest0", Alias: "test:ovtest0", Netns: "/run/netns/none", VNI: vni, MAC: parseMAC(hostMAC), MTU: innerMTU})
	if !errors.Is(err, datapath.ErrTapGone) {
		t.Errorf("%v, want %v", err, datapath.ErrTapGone)
	}
}
