package overlay_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/overlay/ipam"
)

// What hosts have that went down together is refused with what to run, and that is enough: for an address and for a MAC address.
func TestWhatAHostHasThatWentDownWithMany(t *testing.T) {
	for name, tc := range map[string]struct{ mac, addr, want string }{
		"address": {"02:00:00:00:00:01", "10.20.0.9", "address 10.20.0.9 in network vni=5000: host host2 has it on endpoint dddddddddddd: choose another with --ip; "},
		"MAC":     {"02:00:00:00:00:09", "10.20.0.1", "MAC address 02:00:00:00:00:09 in network vni=5000: host host2 has it on endpoint dddddddddddd: give another --mac-address; "},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.network()
			h.cluster.Announce(rival("02:00:00:00:00:09", "10.20.0.9", 3, false))
			h.cluster.CutOff()
			mac, err := discovery.ParseMAC(tc.mac)
			h.must(err)
			spec := endpointSpec(epID, tc.addr)
			spec.MAC = mac
			_, err = h.CreateEndpoint(spec)
			wantError(t, err, tc.want+"or, if host host2 is down, and not this one cut off, run `overlane withdraw host2` here and try again")

			withdrawn, err := h.Withdraw([]string{"host2"})
			h.must(err)
			if !slices.Equal(withdrawn, []string{"host2"}) {
				t.Errorf("withdrawn: %v", withdrawn)
			}
			_, err = h.CreateEndpoint(spec)
			h.must(err)
			_, err = h.Join(netID, epID, sandbox)
			h.must(err)
			if own := h.cluster.Own(key); len(own) != 1 || own[0].Seq != 4 {
				t.Errorf("announced: %+v, want a sequence number above the other's", own)
			}
		})
	}
}

// Where overlane hands out the addresses, its word is enough: it gives none that may be in use there.
func TestAddressGivenByOverlaneOfAHostThatWentDownWithMany(t *testing.T) {
	h := newHost(t)
	h.cluster.CutOff()
	subnet := netip.MustParsePrefix("10.20.0.0/16")
	pool, _, err := h.RequestPool(overlay.PoolSpec{Subnet: subnet})
	h.must(err)
	h.must(h.CreateNetwork(overlay.NetworkSpec{ID: netID, Pools: []netip.Prefix{subnet}}))
	record := rival("02:00:00:00:00:09", "10.20.0.9", 0, false)
	record.Network.Key = "subnet=10.20.0.0/16"
	h.cluster.Announce(record)
	_, err = h.RequestAddress(pool, ipam.Request{Addr: netip.MustParseAddr("10.20.0.9"), MAC: "02:00:00:00:00:01"})
	h.must(err)
	h.create(epID, "10.20.0.9")
}

func TestWhoIsWithdrawn(t *testing.T) {
	h := newHost(t)
	_, err := h.Withdraw([]string{"host2"})
	wantError(t, err, `node "host2": no host that is down is called so: none is down`)
	h.cluster.CutOff()
	_, err = h.Withdraw([]string{"host1"})
	wantError(t, err, `node "host1": no host that is down is called so: those are host2 (222222222222)`)
	for _, hosts := range [][]string{nil, {"2222"}} {
		withdrawn, err := h.Withdraw(hosts)
		h.must(err)
		if !slices.Equal(withdrawn, []string{"host2"}) {
			t.Errorf("%q withdraws %v", hosts, withdrawn)
		}
	}
}
