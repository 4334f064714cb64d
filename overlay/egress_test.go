package overlay_test

import (
	"net/netip"
	"testing"

	"github.com/overlane/overlane/internal/testns"
	"github.com/overlane/overlane/overlay"
)

// A subnet that docker_gwbridge has is refused when the network is created: no container would start on it. One that it may get is not:
// Docker's pools may be others.
func TestSubnetOfEgressBridge(t *testing.T) {
	bridge := netip.MustParsePrefix("172.18.0.0/16")
	for name, c := range map[string]struct {
		exists, ours, internal bool
		pool                   string
		want                   string // in the error; empty: none
	}{
		"fresh host":                {false, true, false, "172.18.0.0/16", ""},
		"wider":                     {false, true, false, "172.18.0.0/15", ""},
		"part":                      {false, true, false, "172.18.9.0/24", ""},
		"it is there":               {true, true, false, "172.18.0.0/16", "has 172.18.0.0/16"},
		"Docker's addresses":        {false, false, false, "172.18.0.0/16", ""}, // Docker knows them
		"Docker's, it is there":     {true, false, false, "172.18.0.0/16", "has 172.18.0.0/16"},
		"internal":                  {true, true, true, "172.18.0.0/16", ""},
		"null driver":               {true, false, false, "0.0.0.0/0", ""},
		"another subnet":            {true, true, false, "172.20.0.0/16", ""},
		"another subnet, no bridge": {false, true, false, "172.20.0.0/16", ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.cluster.Forget()
			h.egress = overlay.Egress{Exists: c.exists, Subnets: []netip.Prefix{bridge}}
			pool := netip.MustParsePrefix(c.pool)
			if c.ours {
				_, _, err := h.RequestPool(overlay.PoolSpec{Subnet: pool})
				h.must(err)
			}
			err := h.CreateNetwork(overlay.NetworkSpec{ID: netID, Pools: []netip.Prefix{pool}, Internal: c.internal, Options: map[string]string{"vni": "8"}})
			if c.want == "" {
				h.must(err)
				return
			}
			wantError(t, err, "subnet "+c.pool, "docker_gwbridge", "another --subnet", "--internal", c.want)
		})
	}
}

// The bridge gets what Docker would give it, until it is there.
func TestDockerEgress(t *testing.T) {
	testns.Enter(t)
	for _, step := range []struct {
		command string
		want    string
		exists  bool
	}{
		{"true", "172.17.0.0/16", false},
		{"ip link add docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0; ip link set docker0 up", "172.18.0.0/16", false},
		{"ip route add 172.16.0.0/12 dev docker0", "192.168.0.0/20", false},
		{"ip link add docker_gwbridge type bridge; ip addr add 10.9.0.1/24 dev docker_gwbridge", "10.9.0.0/24", true},
	} {
		testns.Run(t, step.command)
		egress, err := overlay.DockerEgress()
		if err != nil || egress.Exists != step.exists || len(egress.Subnets) != 1 || egress.Subnets[0].String() != step.want {
			t.Errorf("after %q: %+v (%v), want %s", step.command, egress, err, step.want)
		}
	}
}
