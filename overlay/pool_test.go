package overlay_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/overlay/ipam"
)

// `docker network rm app && docker network create --subnet 10.20.0.0/16 app`, or with another --ip-range: what is removed is not in the way.
func TestAnotherNetworkRightAfterTheOldOne(t *testing.T) {
	for name, next := range map[string]overlay.PoolSpec{
		"wider subnet":  {Subnet: netip.MustParsePrefix("10.20.0.0/16")},
		"another range": {Subnet: netip.MustParsePrefix("10.20.0.0/24"), Range: netip.MustParsePrefix("10.20.0.128/25")},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.cluster.Forget()
			subnet := netip.MustParsePrefix("10.20.0.0/24")
			id, _, err := h.RequestPool(overlay.PoolSpec{Subnet: subnet})
			h.must(err)
			h.must(h.CreateNetwork(overlay.NetworkSpec{ID: netID, Pools: []netip.Prefix{subnet}}))
			h.must(h.ReleasePool(id))
			h.must(h.DeleteNetwork(netID))
			if _, _, err := h.RequestPool(next); err != nil {
				t.Error(err)
			}
		})
	}
}

// What is handed out is no longer free, and all of a pool that one host has alone is one or the other.
func TestAddressUsage(t *testing.T) {
	h := newHost(t)
	h.cluster.Forget()
	subnet := netip.MustParsePrefix("10.20.0.0/24")
	id, _, err := h.RequestPool(overlay.PoolSpec{Subnet: subnet})
	h.must(err)
	var used []int
	for range 3 {
		_, err := h.RequestAddress(id, ipam.Request{})
		h.must(err)
		usage := h.AddressUsage()
		if len(usage) != 1 || usage[0].Subnet != subnet || usage[0].Key == "" || usage[0].Used+int(usage[0].Free) != 254 {
			t.Fatalf("usage %+v", usage)
		}
		used = append(used, usage[0].Used)
	}
	if !slices.Equal(used, []int{1, 2, 3}) {
		t.Errorf("in use were %v", used)
	}
}
