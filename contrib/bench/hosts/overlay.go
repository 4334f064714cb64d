package main

import (
	"context"
	"fmt"
)

// kernelOverlay is what Docker's overlay driver makes: on each host a namespace with a bridge and a VXLAN device that was
// born in the host's namespace, entries for what lives on the other host, and a veth to the container.
func kernelOverlay(ctx context.Context) (*pair, error) {
	bridges := [2]string{"bench-overlay-bridge-a", "bench-overlay-bridge-b"}
	p, err := newPair(ctx, "overlay", bridges[:]...)
	if err != nil {
		return p, err
	}
	for i, bridge := range bridges {
		other := 1 - i
		err := script(ctx,
			fmt.Sprintf("ip -n %s link add vx type vxlan id %d dstport 4789 nolearning proxy", p.hosts[i], vni),
			fmt.Sprintf("ip -n %s link set vx netns %s", p.hosts[i], bridge),
			fmt.Sprintf("ip -n %s link add br0 mtu %d type bridge", bridge, innerMTU),
			fmt.Sprintf("ip -n %s link set br0 up", bridge),
			fmt.Sprintf("ip -n %s link set vx mtu %d master br0 up", bridge, innerMTU),
			fmt.Sprintf("ip link add eth0 mtu %d address %s netns %s type veth peer name box mtu %d netns %s", innerMTU, boxMAC[i], p.boxes[i], innerMTU, bridge),
			fmt.Sprintf("ip -n %s link set box master br0 up", bridge),
			fmt.Sprintf("ip -n %s addr add %s/24 dev eth0", p.boxes[i], boxAddr[i]),
			fmt.Sprintf("ip -n %s link set eth0 up", p.boxes[i]),
			fmt.Sprintf("ip -n %s neigh add %s lladdr %s dev vx nud permanent", bridge, boxAddr[other], boxMAC[other]),
			fmt.Sprintf("bridge -n %s fdb add %s dev vx dst %s self permanent", bridge, boxMAC[other], wire[other]),
		)
		if err != nil {
			return p, err
		}
	}
	return p, nil
}
