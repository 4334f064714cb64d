//go:build lab

package lab

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// holdings is what a host holds for its containers, and gives back when they go.
type holdings struct {
	interfaces, namespaces, descriptors int
	mbufs, endpoints, ports             int
}

// Containers that come and go must leave nothing behind, here or on another host.
func TestChurn(t *testing.T) {
	c := cluster(t)
	here, there := c.Hosts[0], c.Hosts[1]
	network(t, c.Hosts, "app", 20)
	start(t, there, "witness", "app") // the other host takes part in the network, and so learns of its containers

	// The first ones bring what stays for good, such as docker_gwbridge and the engine's idle connections to the driver.
	create(t, here, 4)
	remove(t, here)
	before := held(t, here)
	for range churnRounds {
		create(t, here, churnContainers)
		eventually(t, "the other host learns of all containers", settleTimeout, func() error { return remotes(t, there, churnContainers) })
		remove(t, here)
		eventually(t, "the other host forgets all containers", settleTimeout, func() error { return remotes(t, there, 0) })
	}
	eventually(t, "the host gives everything back", settleTimeout, func() error {
		if after := held(t, here); after.moreThan(before) {
			return fmt.Errorf("before %+v, after %+v", before, after)
		}
		return nil
	})
}

// moreThan says whether any of it is more: less is no leak, a connection to the engine may have closed meanwhile.
func (h holdings) moreThan(o holdings) bool {
	return h.interfaces > o.interfaces || h.namespaces > o.namespaces || h.descriptors > o.descriptors || h.mbufs > o.mbufs || h.endpoints > o.endpoints || h.ports > o.ports
}

func create(t *testing.T, h *Host, n int) {
	t.Helper()
	shell(t, h, fmt.Sprintf("seq %d | xargs -P 4 -I{} docker run -d --name churn{} --network app box sleep infinity", n))
}

func remove(t *testing.T, h *Host) {
	t.Helper()
	shell(t, h, "docker rm -f $(docker ps -aq --filter name=churn)")
}

func remotes(t *testing.T, h *Host, want int) error {
	t.Helper()
	if got := len(status(t, h).Remote); got != want {
		return fmt.Errorf("%d remote endpoints, not %d", got, want)
	}
	return nil
}

func held(t *testing.T, h *Host) holdings {
	t.Helper()
	count := func(script string) int {
		n, err := strconv.Atoi(strings.TrimSpace(shell(t, h, script+" | wc -l")))
		must(t, err)
		return n
	}
	s := status(t, h)
	return holdings{
		interfaces:  count("ls /sys/class/net"),
		namespaces:  count("grep ^nsfs /proc/mounts"), // Docker removes the files under the mounts a minute later
		descriptors: count("ls /proc/$(cat /run/overlane.pid)/fd"),
		mbufs:       s.Datapath.MbufsInUse,
		endpoints:   len(s.Endpoints),
		ports:       len(s.Datapath.Ports),
	}
}
