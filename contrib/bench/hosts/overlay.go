package main

import (
	"context"
	"fmt"

	"github.com/overlane/overlane/contrib/bench/testbed"
)

// kernelOverlay is what Docker's overlay driver makes: on each host a namespace with a bridge and a VXLAN device that was
// born in the host's namespace, entries for what lives on the other host, and a veth to each container.
func kernelOverlay(ctx context.Context, name string) (*pair, error) {
	bridges := [2]string{"bench-" + name + "-bridge-a", "bench-" + name + "-bridge-b"}
	p, err := newPair(ctx, name, bridges[:]...)
	if err != nil {
		return p, err
	}
	for i, bridge := range bridges {
		err := testbed.Script(ctx,
			fmt.Sprintf("ip -n %s link add vx type vxlan id %d dstport 4789 nolearning proxy", p.hosts[i], vni),
			fmt.Sprintf("ip -n %s link set vx netns %s", p.hosts[i], bridge),
			fmt.Sprintf("ip -n %s link add br0 mtu %d type bridge", bridge, innerMTU),
			fmt.Sprintf("ip -n %s link set br0 up", bridge),
			fmt.Sprintf("ip -n %s link set vx mtu %d master br0 up", bridge, innerMTU),
		)
		if err != nil {
			return p, err
		}
	}
	for n := range p.containers {
		if err := p.plumb(ctx, n, bridges[n%2], bridges[1-n%2]); err != nil {
			return p, err
		}
	}
	return p, nil
}

// plumb joins container n to its host's bridge, and tells the far host's where it is.
func (p *pair) plumb(ctx context.Context, n int, bridge, far string) error {
	return testbed.Script(ctx,
		fmt.Sprintf("ip link add eth0 mtu %d address %s netns %s type veth peer name ctr%d mtu %d netns %s", innerMTU, containerMAC[n], p.containers[n], n, innerMTU, bridge),
		fmt.Sprintf("ip -n %s link set ctr%d master br0 up", bridge, n),
		fmt.Sprintf("ip -n %s addr add %s/24 dev eth0", p.containers[n], containerAddr[n]),
		fmt.Sprintf("ip -n %s link set eth0 up", p.containers[n]),
		fmt.Sprintf("ip -n %s neigh add %s lladdr %s dev vx nud permanent", far, containerAddr[n], containerMAC[n]),
		fmt.Sprintf("bridge -n %s fdb add %s dev vx dst %s self permanent", far, containerMAC[n], wire[n%2]),
	)
}

// withoutOffloads is what is left of Docker's overlay where ESP is between VXLAN and the wire (--opt encrypted), before a byte is encrypted:
// packets are cut up and summed before they come to it.
func withoutOffloads(ctx context.Context) (*pair, error) {
	p, err := kernelOverlay(ctx, "segments")
	for _, host := range p.hosts {
		if err == nil {
			err = testbed.Command(ctx, host, "ethtool", "-K", "wire", "tx", "off", "tso", "off", "gso", "off", "gro", "off", "tx-udp-segmentation", "off").Run()
		}
	}
	return p, err
}
