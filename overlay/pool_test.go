package overlay_test

import (
	"net/netip"
	"testing"

	"github.com/overlane/overlane/overlay"
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
