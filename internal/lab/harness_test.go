//go:build lab

package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// underlayVariable names what carries VXLAN when the tests run for one kind: see TestUnderlays.
const underlayVariable = "LAB_UNDERLAY"

// settled is what a test grants a change until the last host has felt it.
const settled = 10 * time.Second

// up starts a cluster for one test, and shows what its hosts have logged when the test fails.
func up(t *testing.T, hosts int) *Cluster {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	name := "lab-" + strings.ToLower(t.Name())
	c, err := Up(t.Context(), Options{Name: name, Hosts: hosts, Underlay: os.Getenv(underlayVariable)})
	t.Cleanup(func() {
		if t.Failed() && c != nil {
			for _, h := range c.Hosts {
				t.Logf("%s:\n%s", h.Name, h.Log(ctx))
			}
		}
		must(t, Down(ctx, name))
	})
	must(t, err)
	acquainted(t, c)
	return c
}

// acquainted waits until every host knows all the others.
func acquainted(t *testing.T, c *Cluster) {
	t.Helper()
	everyHost(t, c, "knows the others", func(h *Host) error { return alive(t, h, len(c.Hosts)) })
}

// alive demands so many members that are up.
func alive(t *testing.T, h *Host, want int) error {
	t.Helper()
	n := 0
	for _, m := range status(t, h).Members {
		if m.State == "alive" {
			n++
		}
	}
	if n != want {
		return fmt.Errorf("%d members alive, not %d", n, want)
	}
	return nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition that holds once the hosts have settled.
func eventually(t *testing.T, what string, timeout time.Duration, check func() error) {
	t.Helper()
	err := Wait(t.Context(), timeout, func(context.Context) error { return check() })
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func everyHost(t *testing.T, c *Cluster, what string, check func(*Host) error) {
	t.Helper()
	for _, h := range c.Hosts {
		eventually(t, h.Name+" "+what, settled, func() error { return check(h) })
	}
}

// network creates a dual-stack network 10.SUBNET.0.0/16 and fd00:SUBNET::/64 on the hosts, each with a range of its own to
// hand out addresses from.
func network(t *testing.T, hosts []*Host, name string, subnet int, options ...string) {
	t.Helper()
	for _, h := range hosts {
		args := []string{
			"network", "create", "--driver", "overlane", "--ipv6",
			"--subnet", fmt.Sprintf("10.%d.0.0/16", subnet), "--ip-range", fmt.Sprintf("10.%d.%d.0/24", subnet, h.Number),
			"--subnet", fmt.Sprintf("fd00:%d::/64", subnet), "--ip-range", fmt.Sprintf("fd00:%d::%d:0/112", subnet, h.Number),
		}
		_, err := h.Docker(t.Context(), append(append(args, options...), name)...)
		must(t, err)
	}
}

// start runs a container and gives its addresses in the network as well.
func start(t *testing.T, h *Host, name, network string, args ...string) (*Container, Attachment) {
	t.Helper()
	c, err := h.Run(t.Context(), name, append([]string{"--network", network}, args...)...)
	must(t, err)
	return c, attachment(t, c, network)
}

func attachment(t *testing.T, c *Container, network string) Attachment {
	t.Helper()
	a, err := c.Attachment(t.Context(), network)
	must(t, err)
	return a
}

// reach demands that the addresses answer, all of them and at once after the first answer.
func reach(t *testing.T, from *Container, to ...netip.Addr) {
	t.Helper()
	for _, addr := range to {
		must(t, from.Reach(t.Context(), addr))
		_, err := from.Ping(t.Context(), addr, 3)
		must(t, err)
	}
}

// unreachable demands that no echo request to the address is answered.
func unreachable(t *testing.T, from *Container, to netip.Addr) {
	t.Helper()
	if _, err := from.Ping(t.Context(), to, 1); err == nil {
		t.Errorf("%s on %s reaches %s", from.Name, from.Host.Name, to)
	}
}

// shell runs a script on the host.
func shell(t *testing.T, h *Host, script string) string {
	t.Helper()
	out, err := h.Exec(t.Context(), "sh", "-ec", script)
	must(t, err)
	return out
}

// stop ends the daemon of the host, which leaves the cluster.
func stop(t *testing.T, h *Host) {
	t.Helper()
	shell(t, h, "kill $(cat /run/overlane.pid) && tail --pid=$(cat /run/overlane.pid) -f /dev/null")
}

// restartWith starts the daemon anew after what the script sets up, with an empty log.
func restartWith(t *testing.T, h *Host, script string) {
	t.Helper()
	stop(t, h)
	shell(t, h, ": >/var/log/overlane.log; "+script+"; start-overlane")
	must(t, Wait(t.Context(), settled, h.ready))
}

// hostStatus is the part of `overlane status -o json` that the tests look at.
type hostStatus struct {
	Members []struct {
		Host  string `json:"host"`
		State string `json:"state"`
	} `json:"members"`
	Networks []struct {
		Key string `json:"key"`
		VNI uint32 `json:"vni"`
	} `json:"networks"`
	Endpoints []struct{} `json:"endpoints"`
	Remote    []struct {
		Host string `json:"host"`
	} `json:"remote_endpoints"`
	Gossip struct {
		Rejected map[string]uint64 `json:"rejected"`
	} `json:"gossip"`
	Datapath struct {
		MbufsInUse int               `json:"mbufs_in_use"`
		Ports      []struct{}        `json:"ports"`
		Drops      map[string]uint64 `json:"drops"`
	} `json:"datapath"`
}

func status(t *testing.T, h *Host) hostStatus {
	t.Helper()
	out, err := h.Exec(t.Context(), "overlane", "status", "-o", "json")
	must(t, err)
	var s hostStatus
	must(t, json.Unmarshal([]byte(out), &s))
	return s
}
