package main

import (
	"context"
	"fmt"

	"github.com/overlane/overlane/contrib/bench/bed"
)

func hostAddress(i int) string { return fmt.Sprintf("10.9.3.%d", i+1) }

// makeWire makes the hosts' namespaces, and a bridge between them in one of its own.
func makeWire(ctx context.Context, hosts int) error {
	if err := bed.Make(ctx, wireSpace); err != nil {
		return err
	}
	if err := bed.Script(ctx, "ip -n "+wireSpace+" link add wire up type bridge"); err != nil {
		return err
	}
	for i := range hosts {
		host := hostSpace(i)
		if err := bed.Make(ctx, host); err != nil {
			return err
		}
		err := bed.Script(ctx,
			fmt.Sprintf("ip link add eth0 netns %s type veth peer name plug%d netns %s", host, i, wireSpace),
			fmt.Sprintf("ip -n %s link set plug%d master wire up", wireSpace, i),
			fmt.Sprintf("ip -n %s addr add %s/24 dev eth0", host, hostAddress(i)),
			fmt.Sprintf("ip -n %s link set eth0 up", host))
		if err != nil {
			return err
		}
	}
	return nil
}
