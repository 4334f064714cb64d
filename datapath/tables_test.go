package datapath_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/overlane/overlane/datapath"
)

func table(t *testing.T, name string) datapath.TableStats {
	t.Helper()
	for _, s := range plane.Stats().Tables {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no table %q in %+v", name, plane.Stats().Tables)
	return datapath.TableStats{}
}

// Dual-stack endpoints of other hosts fill the tables for MAC addresses and neighbours at about one time. It is said before,
// what does not fit is refused, and when they go there is room again.
func TestTablesFill(t *testing.T) {
	const fullVNI = 8471
	must(t, plane.AddNetwork(fullVNI, false))
	defer plane.DelNetwork(fullVNI)
	endpoint := func(i int) (datapath.MAC, [2]netip.Addr) {
		a, b, c := byte(i>>16), byte(i>>8), byte(i)
		return datapath.MAC{2, 0x42, 10, a, b, c}, [2]netip.Addr{netip.AddrFrom4([4]byte{10, a, b, c}), netip.AddrFrom16([16]byte{0: 0xfd, 13: a, 14: b, 15: c})}
	}
	add := func(i int) error {
		mac, addrs := endpoint(i)
		err := plane.SetMAC(fullVNI, mac, peerWire)
		for _, addr := range addrs {
			if err == nil {
				err = plane.SetNeighbour(fullVNI, addr, mac, false)
			}
		}
		return err
	}
	before, warned, capacity := table(t, "MAC addresses").Entries, 0, table(t, "MAC addresses").Capacity
	var err error
	n := 0
	for ; err == nil; n++ {
		if n%1024 == 0 && warned == 0 && table(t, "MAC addresses").NearlyFull {
			warned = n
		}
		err = add(n)
	}
	t.Logf("refused with %d endpoints, warned from %d on: %v", n-1, warned, err)
	if before+n-1 < capacity-8 || !strings.Contains(err.Error(), "is full: it has room for") {
		t.Errorf("refused with %d endpoints, with room for %d: %v", n-1, capacity-before, err)
	}
	if part := float64(before+warned) / float64(capacity); part < 0.79 || part > 0.82 {
		t.Errorf("warned when %.2f of the table was full", part)
	}
	alias := testAlias + "ovfull"
	run(t, hostNS, "ip tuntap add dev ovfull mode tap vnet_hdr multi_queue && ip link set ovfull alias "+alias)
	defer run(t, hostNS, "ip link del ovfull")
	mac, addrs := endpoint(n + 1)
	config := datapath.PortConfig{Name: "ovfull", Alias: alias, Netns: "/run/netns/" + hostNS, VNI: fullVNI, MAC: mac, Addrs: addrs[:], MTU: innerMTU}
	_, err = plane.AddPort(config)
	if has, hasErr := plane.InContainer(config); err == nil || !has || hasErr != nil {
		t.Errorf("a container's tap for which there is no room (%v) is there still: %t %v", err, has, hasErr)
	}
	if s := table(t, "neighbours"); !s.NearlyFull || s.Entries > s.Capacity {
		t.Errorf("neighbours: %+v", s)
	}
	must(t, plane.DelNetwork(fullVNI))
	if got := table(t, "MAC addresses"); got.Entries > before || got.NearlyFull {
		t.Errorf("after the end: %+v, want %d entries", got, before-1)
	}
	must(t, plane.AddNetwork(fullVNI, false))
	for i := range 1024 {
		must(t, add(i))
	}
}
