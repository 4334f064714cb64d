//go:build lab

package lab

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// Some times a network is made and containers start, and at some moment dockerd and overlane are killed. When both run again
// and all is removed nothing is left, and before that the address of a container that is gone can be asked for.
func TestNothingIsLeft(t *testing.T) {
	c := cluster(t)
	h := c.Hosts[0]
	clean := map[*Host]string{}
	for _, host := range c.Hosts {
		clean[host] = belongings(t, host)
	}
	for round := range leftRounds {
		pooled(t, c.Hosts, "app", "10.53.0.0/24")
		end := runMany(t, h, "app", leftContainers)
		moment := rand.N(2 * time.Second)
		time.Sleep(moment)
		former := addresses(t, h).Addresses
		shell(t, h, "pkill -9 -x 'dockerd|overlane'; start-overlane")
		ready(t, c.Hosts[:1])
		end()
		shell(t, h, "docker ps -aq | xargs -r docker rm -f")
		for _, lease := range former {
			again, _ := start(t, h, "again", "app", "--ip", lease.Address.String())
			must(t, again.Remove(t.Context()))
		}
		empty(t, c.Hosts)
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
	if left := shell(t, h, "for ns in $(find /run/docker/netns -type f); do nsenter --net=$ns ip -o link show type tun 2>/dev/null || true; done"); left != "" {
		t.Errorf("taps are left in containers' namespaces:\n%s", left)
	}
}

// belongings are what overlane has on a host, in memory, in the kernel and on disk: of pools, the test's alone.
func belongings(t *testing.T, h *Host) string {
	t.Helper()
	s := status(t, h)
	return fmt.Sprintf("networks %d, endpoints %d, ports %d, addresses %d\n%s", len(s.Networks), len(s.Endpoints), len(s.Datapath.Ports), len(addresses(t, h).Addresses),
		shell(t, h, "ip -o link show type tun | cut -d: -f2; find /var/lib/overlane -type f ! -name peers ! -name cluster.json; overlane ipam | grep -F 10.53. || :; overlane status records"))
}
