//go:build lab

package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// acquainted waits until every host knows all the others.
func acquainted(t *testing.T, c *Cluster) {
	t.Helper()
	everyHost(t, c, "knows the others", func(h *Host) error { return alive(t, h, len(c.Hosts)) })
}

// alive demands so many members that are up.
func alive(t *testing.T, h *Host, want int) error {
	t.Helper()
	return members(t, h, "alive", want)
}

func members(t *testing.T, h *Host, state string, want int) error {
	t.Helper()
	if n := status(t, h).members(state); n != want {
		return fmt.Errorf("%d members %s, not %d", n, state, want)
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
	err := Wait(lasting(t), timeout, func(context.Context) error { return check() })
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func everyHost(t *testing.T, c *Cluster, what string, check func(*Host) error) {
	t.Helper()
	for _, h := range c.Hosts {
		eventually(t, h.Name+" "+what, settleTimeout, func() error { return check(h) })
	}
}

// network creates a dual-stack network 10.SUBNET.0.0/16 and fd00:SUBNET::/64 on the hosts, each with a range of its own to
// hand out addresses from.
func network(t *testing.T, hosts []*Host, name string, subnet int, options ...string) {
	t.Helper()
	shells(t, hosts, func(h *Host) string {
		return fmt.Sprintf("docker network create --driver overlane --ipv6 --subnet 10.%[1]d.0.0/16 --ip-range 10.%[1]d.%[2]d.0/24 --subnet fd00:%[1]d::/64 --ip-range fd00:%[1]d::%[2]d:0/112 %[3]s %[4]s",
			subnet, h.Number, strings.Join(options, " "), name)
	})
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
	script := fmt.Sprintf(`for a in %s; do
		timeout %.0f sh -c "until /usr/bin/ping -n -c 1 -W 1 $a >/dev/null; do :; done" || { echo no answer from $a; exit 1; }
		for i in 1 2 3; do /usr/bin/ping -n -W 5 -c 1 $a || :; done
	done`, strings.Trim(fmt.Sprint(to), "[]"), settleTimeout.Seconds())
	out, err := from.Exec(t.Context(), "sh", "-c", script)
	must(t, err)
	for _, count := range pingReceived.FindAllStringSubmatch(out, -1) {
		if count[1] != count[2] {
			t.Fatalf("from %s on %s not every request is answered:\n%s", from.Name, from.Host.Name, out)
		}
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
	out, err := h.Exec(lasting(t), "sh", "-ec", script)
	must(t, err)
	return out
}

// ends is a command that waits until the process whose ID follows is gone.
const ends = "timeout 60 tail -f /dev/null --pid="

// restartEngine is a command that ends a host's engine by a signal, and waits until it runs again.
func restartEngine(signal string) string {
	return "old=$(cat /run/docker.pid); kill -" + signal + " $old; " + ends + "$old; until docker version >/dev/null 2>&1; do sleep 0.1; done"
}

// stop ends the daemons of the hosts, which leave the cluster. At the end of the test they start again, as if for the first
// time.
func stop(t *testing.T, hosts ...*Host) {
	t.Helper()
	putBack(t, func() {
		empty(t, hosts)
		shells(t, hosts, func(*Host) string { return stopDaemon })
		shells(t, hosts, func(*Host) string { return "rm -rf /var/lib/overlane; start-overlane" })
		ready(t, hosts)
	})
	shells(t, hosts, func(*Host) string { return stopDaemon })
}

// stopDaemon has the daemon leave: it takes the host for one that shuts down.
const stopDaemon = "echo stopping >/run/state; for pid in $(pidof overlane); do kill $pid; " + ends + "$pid; done; echo running >/run/state"

// restartWith starts the daemons anew, with an empty log, after what the script for each sets up until the end of the test.
func restartWith(t *testing.T, hosts []*Host, script func(*Host) string) {
	t.Helper()
	stop(t, hosts...)
	shells(t, hosts, func(h *Host) string { return ": >/var/log/overlane.log; " + script(h) + "; start-overlane" })
	ready(t, hosts)
}

// ready waits until the daemons and the engines of the hosts answer.
func ready(t *testing.T, hosts []*Host) {
	t.Helper()
	must(t, each(hosts, func(h *Host) error { return Wait(lasting(t), startTimeout, h.ready) }))
}

// kill ends hosts at once, with all that runs on them, until the end of the test.
func kill(t *testing.T, hosts ...*Host) {
	t.Helper()
	var names []string
	for _, h := range hosts {
		names = append(names, h.Name)
	}
	putBack(t, func() {
		_, err := docker(lasting(t), append([]string{"start"}, names...)...)
		must(t, err)
		booted(t, hosts)
	})
	_, err := docker(t.Context(), append([]string{"kill"}, names...)...)
	must(t, err)
}

// boot starts a host that is down, or as `restart` says one that is not.
func boot(t *testing.T, h *Host, how string) {
	t.Helper()
	_, err := docker(lasting(t), how, h.Name)
	must(t, err)
	booted(t, []*Host{h})
}

// booted waits for hosts that were started again.
func booted(t *testing.T, hosts []*Host) {
	t.Helper()
	must(t, each(hosts, func(h *Host) error { return h.locate(lasting(t)) }))
	ready(t, hosts)
}

// hostStatus is the part of `overlane status -o json` that the tests look at.
type hostStatus struct {
	Members []struct {
		ID    string `json:"id"`
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
	Everywhere []struct{} `json:"everywhere"`
	Gossip     struct {
		Rejected map[string]uint64 `json:"rejected"`
	} `json:"gossip"`
	Datapath struct {
		MbufsInUse int               `json:"mbufs_in_use"`
		Ports      []struct{}        `json:"ports"`
		Drops      map[string]uint64 `json:"drops"`
	} `json:"datapath"`
}

func (s hostStatus) members(state string) (n int) {
	for _, m := range s.Members {
		if m.State == state {
			n++
		}
	}
	return n
}

func status(t *testing.T, h *Host) hostStatus {
	t.Helper()
	out, err := h.Exec(lasting(t), "overlane", "status", "-o", "json")
	must(t, err)
	var s hostStatus
	must(t, json.Unmarshal([]byte(out), &s))
	return s
}
