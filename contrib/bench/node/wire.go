package main

import (
	"context"
	"fmt"

	"github.com/overlane/overlane/contrib/bench/testbed"
)

func hostAddress(i int) string { return fmt.Sprintf("10.9.3.%d", i+1) }

// makeWire makes the hosts' namespaces, and a bridge between them in one of its own.
func makeWire(ctx context.Context, hosts int) error {
	if err := testbed.AddNamespaces(ctx, wireNS); err != nil {
		return err
	}
	if err := testbed.Script(ctx, "ip -n "+wireNS+" link add wire up type bridge"); err != nil {
		return err
	}
	for i := range hosts {
		host := hostNS(i)
		if err := testbed.AddNamespaces(ctx, host); err != nil {
			return err
		}
		err := testbed.Script(ctx,
			fmt.Sprintf("ip link add eth0 netns %s type veth peer name plug%d netns %s", host, i, wireNS),
			fmt.Sprintf("ip -n %s link set plug%d master wire up", wireNS, i),
			fmt.Sprintf("ip -n %s addr add %s/24 dev eth0", host, hostAddress(i)),
			fmt.Sprintf("ip -n %s link set eth0 up", host))
		if err != nil {
			return err
		}
	}
	return nil
}
