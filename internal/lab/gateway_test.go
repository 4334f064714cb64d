//go:build lab

package lab

import (
	"fmt"
	"strings"
	"testing"
)

// The network's gateway is one address for all hosts, and no container's, whichever engine makes the network first: also where a container
// runs before the other hosts have it, and when the subnet is full.
func TestGateway(t *testing.T) {
	c := cluster(t)
	for i, first := range c.Hosts {
		t.Run(first.Name+" makes it first", func(t *testing.T) {
			testGateway(t, first, c.Hosts, fmt.Sprintf("10.64.%d.0/29", i))
		})
	}
}

func testGateway(t *testing.T, first *Host, hosts []*Host, subnet string) {
	const name, room = "gateway", 5 // beside the network's address, the broadcast address and the gateway
	t.Cleanup(func() { empty(t, hosts) })
	pooled(t, []*Host{first}, name, subnet)
	_, at := start(t, first, "first", name)
	addrs := map[string]string{at.IPAddress.String(): "first"}
	var others []*Host
	for _, h := range hosts {
		if h != first {
			others = append(others, h)
		}
	}
	pooled(t, others, name, subnet)
	for i := range room - 1 {
		name := fmt.Sprint("next", i)
		_, at := start(t, others[i%len(others)], name, "gateway")
		if other := addrs[at.IPAddress.String()]; other != "" {
			t.Errorf("%s and %s have %s", name, other, at.IPAddress)
		}
		addrs[at.IPAddress.String()] = name
	}
	if _, err := first.Run(t.Context(), "more", "--network", name); err == nil {
		t.Errorf("more containers than %d: %v", room, addrs)
	}
	want := strings.TrimSuffix(subnet, "0/29") + "1"
	for _, h := range hosts {
		// The pool of the network before may not be handed over yet.
		if gateway := shell(t, h, fmt.Sprintf(`overlane ipam -o json | jq -r '.pools[] | select(.subnet == "%s").gateway'`, subnet)); strings.TrimSpace(gateway) != want {
			t.Errorf("%s has gateway %q, want %s", h.Name, gateway, want)
		}
	}
	if container := addrs[want]; container != "" {
		t.Errorf("%s has the gateway's address", container)
	}
}
