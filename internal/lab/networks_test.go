//go:build lab

package lab

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// subnetOf waits until a network has the same subnet in the engines of all hosts, or none where it is to be gone, and gives it.
func subnetOf(t *testing.T, hosts []*Host, name string, there bool) string {
	t.Helper()
	var subnet string
	eventually(t, fmt.Sprintf("network %s is there: %v", name, there), settleTimeout, func() error {
		subnet = ""
		for i, h := range hosts {
			got := strings.TrimSpace(shell(t, h, fmt.Sprintf(
				"docker network ls --quiet --filter name=^%s$ | xargs -r docker network inspect --format '{{range .IPAM.Config}}{{.Subnet}}{{end}}' 2>/dev/null || true", name)))
			if (got != "") != there || i > 0 && got != subnet {
				return fmt.Errorf("%s has it with %q, the one before with %q", h.Name, got, subnet)
			}
			subnet = got
		}
		return nil
	})
	return subnet
}

// A network made on one host is on all, and removed likewise, once no container uses it. A host that was off catches up; of two made at the
// same moment one stays.
func TestNetworkEverywhere(t *testing.T) {
	c := cluster(t)
	one, two, three := c.Hosts[0], c.Hosts[1], c.Hosts[2]
	began := time.Now()
	if out := shell(t, one, "overlane network create app --subnet 10.63.0.0/24 --label team=shop"); !strings.Contains(out, "is on all of its hosts") {
		t.Errorf("overlane network create:\n%s", out)
	}
	t.Logf("on all hosts after %v", time.Since(began))
	subnetOf(t, c.Hosts, "app", true)
	db, dbAt := start(t, two, "db", "app")
	web, _ := start(t, three, "web", "app")
	called(t, web, "db", dbAt.IPAddress)
	reach(t, web, dbAt.IPAddress)

	// By Docker's command it goes from nowhere for long.
	shell(t, one, "docker network rm app")
	subnetOf(t, c.Hosts, "app", true)

	if out := shell(t, one, "overlane network rm app"); !strings.Contains(out, "containers use it: db") || !strings.Contains(out, "containers use it: web") {
		t.Errorf("overlane network rm of one that is in use:\n%s", out)
	}
	if out := shell(t, two, "overlane status"); !strings.Contains(out, "containers use it: db") {
		t.Errorf("overlane status:\n%s", out)
	}
	must(t, db.Remove(t.Context()))
	must(t, web.Remove(t.Context()))
	subnetOf(t, c.Hosts, "app", false)

	shell(t, two, "docker network create -d overlane --ipam-driver overlane --subnet 10.64.0.0/24 --subnet fd00:64::/64 --ipv6 -o everywhere=true docker")
	eventually(t, "what Docker made is on all", settleTimeout, func() error {
		return each(c.Hosts, func(h *Host) error {
			_, err := h.Docker(t.Context(), "network", "inspect", "docker")
			return err
		})
	})

	shell(t, three, "kill -9 $(cat /run/overlane.pid)")
	for _, script := range []string{"overlane network rm docker", "overlane network create new --ipam-driver default --subnet 10.65.0.0/24 --internal"} {
		shell(t, one, script)
	}
	subnetOf(t, c.Hosts[:2], "docker", false)
	shell(t, three, "start-overlane")
	ready(t, c.Hosts[2:])
	subnetOf(t, c.Hosts, "docker", false)
	subnetOf(t, c.Hosts, "new", true)

	var making errgroup.Group
	outs := make([]string, 2)
	for i, h := range c.Hosts[:2] {
		making.Go(func() error {
			out, err := h.Exec(t.Context(), "sh", "-c", fmt.Sprintf("overlane network create race --subnet 10.%d.0.0/24 2>&1 || true", 66+i))
			outs[i] = out
			return err
		})
	}
	must(t, making.Wait())
	winner := 0
	if subnetOf(t, c.Hosts, "race", true) != "10.66.0.0/24" {
		winner = 1
	}
	if !strings.Contains(outs[winner], "is on all of its hosts") || strings.Contains(outs[1-winner], "is on all of its hosts") {
		t.Errorf("of two that made a network at the same moment the winner was told %q, the other %q", outs[winner], outs[1-winner])
	}
	for _, name := range []string{"new", "race"} {
		shell(t, three, "overlane network rm "+name)
		subnetOf(t, c.Hosts, name, false)
	}
}
