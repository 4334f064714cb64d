//go:build lab

package lab

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// Twenty times a network is made and ten containers start, and at some moment dockerd and overlane are killed. When both
// run again and all is removed nothing is left, and before that the address of a container that is gone can be asked for.
func TestNothingIsLeft(t *testing.T) {
	const rounds, containers = 20, 10
	c := up(t, 2)
	h := c.Hosts[0]
	clean := map[*Host]string{}
	for _, host := range c.Hosts {
		clean[host] = belongings(t, host)
	}
	for round := range rounds {
		pooled(t, c.Hosts, "app", "10.20.0.0/24")
		shell(t, h, fmt.Sprintf("seq %d | setsid xargs -P 4 -I{} timeout 60 docker run -d --network app box sleep infinity >/run/starting 2>&1 & echo $! >/run/starting.pid", containers))
		moment := rand.N(2 * time.Second)
		time.Sleep(moment)
		former := addresses(t, h).Addresses
		shell(t, h, "pkill -9 -x 'dockerd|overlane'; start-overlane")
		eventually(t, "the daemons answer", time.Minute, func() error { return h.ready(t.Context()) })
		shell(t, h, "tail --pid=$(cat /run/starting.pid) -f /dev/null")
		shell(t, h, "docker ps -aq | xargs -r docker rm -f")
		for _, lease := range former {
			again, _ := start(t, h, "again", "app", "--ip", lease.Address.String())
			must(t, again.Remove(t.Context()))
		}
		for _, host := range c.Hosts {
			_, err := host.Docker(t.Context(), "network", "rm", "app")
			must(t, err)
		}
		for _, host := range c.Hosts {
			began := time.Now()
			eventually(t, "nothing is left on "+host.Name, collected, func() error {
				if got := belongings(t, host); got != clean[host] {
					return fmt.Errorf("round %d, killed after %v: before\n%s\nand now\n%s", round, moment, clean[host], got)
				}
				return nil
			})
			t.Logf("round %d, killed after %v with %d containers: nothing left on %s after %v", round, moment, len(former), host.Name, time.Since(began))
		}
	}
	// An engine that is killed may leave a namespace itself, but nothing of ours in it.
	if left := shell(t, h, "for space in $(find /run/docker/netns -type f); do nsenter --net=$space ip -o link show type tun 2>/dev/null || true; done"); left != "" {
		t.Errorf("taps are left in containers' namespaces:\n%s", left)
	}
}

// belongings are what overlane has on a host, in memory, in the kernel and on disk.
func belongings(t *testing.T, h *Host) string {
	t.Helper()
	s := status(t, h)
	a := addresses(t, h)
	return fmt.Sprintf("networks %d, endpoints %d, ports %d, addresses %d, blocks %d\n%s", len(s.Networks), len(s.Endpoints), len(s.Datapath.Ports), len(a.Addresses), len(a.Blocks),
		shell(t, h, "ip -o link show type tun | cut -d: -f2; find /var/lib/overlane -type f ! -name peers; overlane ipam; overlane status records"))
}
