package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
)

// StartContainers starts containers on every host at once, and tells their IPv4 addresses in a network.
func StartContainers(ctx context.Context, hosts []*Host, network string, each int) ([]*Container, []netip.Addr, error) {
	containers := make([]*Container, len(hosts)*each)
	addrs := make([]netip.Addr, len(containers))
	errs := make([]error, len(containers))
	var starting sync.WaitGroup
	for i := range containers {
		starting.Go(func() {
			name := fmt.Sprintf("many-%d", i/len(hosts)+1)
			if containers[i], errs[i] = hosts[i%len(hosts)].Run(ctx, name, "--network", network); errs[i] != nil {
				return
			}
			var a Attachment
			a, errs[i] = containers[i].Attachment(ctx, network)
			addrs[i] = a.IPAddress
		})
	}
	starting.Wait()
	return containers, addrs, errors.Join(errs...)
}

// ReachAll waits until every one of the addresses answers an echo request from every one of the containers.
func ReachAll(ctx context.Context, containers []*Container, addrs []netip.Addr) error {
	script := "for a in"
	for _, addr := range addrs {
		script += " " + addr.String()
	}
	script += "; do /usr/bin/ping -n -c 1 -W 2 $a >/dev/null || echo $a & done; wait"
	for _, c := range containers {
		err := Wait(ctx, settleTimeout, func(ctx context.Context) error {
			silent, err := c.Exec(ctx, "sh", "-c", script)
			if err == nil && strings.TrimSpace(silent) != "" {
				err = fmt.Errorf("%s on %s: no answer from %s", c.Name, c.Host.Name, strings.Join(strings.Fields(silent), ", "))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
