//go:build lab

package lab

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Whatever is restarted, traffic that runs goes on: these tests send an echo request every 10 ms and a TCP stream from
// red to blue meanwhile, and look for the longest time without a reply. None may be longer than this, ten times what is usual.
const outage = 5 * time.Second

var stampedReply = regexp.MustCompile(`(?m)^\[(\d+\.\d+)\] \d+ bytes from`)

// flow is traffic that runs between two containers.
type flow struct {
	from   *Container
	to     netip.Addr
	judged int // replies before the last one that gap has looked at
}

// begin starts it, as processes of the containers, which end with them alone.
func begin(t *testing.T, from *Container, to netip.Addr) *flow {
	t.Helper()
	f := &flow{from: from, to: to}
	reach(t, f.from, f.to)
	_, err := f.from.Host.Docker(t.Context(), "exec", "--detach", f.from.Name, "sh", "-c",
		fmt.Sprintf("/usr/bin/ping -n -D -i 0.01 %s >/tmp/ping.log 2>&1 & echo $! >/tmp/ping.pid; iperf3 -c %s -b 100M -t 600 --logfile /tmp/tcp.log & echo $! >/tmp/tcp.pid; wait", f.to, f.to))
	must(t, err)
	f.goesOn(t)
	return f
}

// goesOn waits until so many more replies than now have come.
func (f *flow) goesOn(t *testing.T) {
	t.Helper()
	before := -1
	eventually(t, "replies come", settleTimeout, func() error {
		n := len(f.replies(t))
		if before < 0 {
			before = n
		}
		if n < before+50 {
			return fmt.Errorf("%d replies, %d before", n, before)
		}
		return nil
	})
}

// replies are the times at which replies came.
func (f *flow) replies(t *testing.T) []float64 {
	t.Helper()
	log, err := f.from.Exec(t.Context(), "cat", "/tmp/ping.log")
	must(t, err)
	var all []float64
	for _, m := range stampedReply.FindAllStringSubmatch(log, -1) {
		at, err := strconv.ParseFloat(m[1], 64)
		must(t, err)
		all = append(all, at)
	}
	return all
}

// gap is the longest time between two replies since it was asked for last. The TCP stream must still run.
func (f *flow) gap(t *testing.T, what string) time.Duration {
	t.Helper()
	f.goesOn(t)
	_, err := f.from.Exec(t.Context(), "sh", "-c", "kill -0 $(cat /tmp/tcp.pid) && kill -0 $(cat /tmp/ping.pid)")
	if err != nil {
		t.Errorf("%s: the TCP stream or the ping has ended: %v", what, err)
	}
	var longest float64
	all := f.replies(t)[f.judged:]
	for i := 1; i < len(all); i++ {
		longest = max(longest, all[i]-all[i-1])
	}
	f.judged += len(all) - 1
	d := time.Duration(longest * float64(time.Second)).Round(time.Millisecond)
	t.Logf("%s: longest time without a reply %v, of %d replies", what, d, len(all))
	return d
}

// short demands that the gap is not longer than an outage may be.
func (f *flow) short(t *testing.T, what string) {
	t.Helper()
	if gap := f.gap(t, what); gap >= outage {
		t.Errorf("%s: %v without a reply, want less than %v", what, gap, outage)
	}
}

// The daemon of either host is killed under traffic, with many endpoints: it takes all back.
func TestTrafficOutlivesDaemon(t *testing.T) {
	c := cluster(t)
	f := manyEndpoints(t, c, "overlane")
	if n, want := len(status(t, f.from.Host).Endpoints), manyNetworks*manyContainers; n != want {
		t.Fatalf("%d endpoints, want %d", n, want)
	}
	for _, h := range c.Hosts[:2] {
		shell(t, h, "kill -9 $(cat /run/overlane.pid); start-overlane")
		f.short(t, "overlane killed on "+h.Name)
	}
}

// manyEndpoints puts containers on several networks each, and has one of them send to another host.
func manyEndpoints(t *testing.T, c *Cluster, driver string) *flow {
	t.Helper()
	hosts := c.Hosts[:2]
	for n := range manyNetworks {
		shells(t, hosts, func(*Host) string {
			return fmt.Sprintf("docker network create -d %s --ipam-driver %[1]s --subnet 10.6%d.0.0/24 net%[2]d", driver, n)
		})
	}
	_, to := start(t, hosts[1], "blue", "net0")
	var from *Container
	for i := range manyContainers {
		from, _ = start(t, hosts[0], fmt.Sprint("red", i), "net0")
		shell(t, hosts[0], fmt.Sprintf("for n in $(seq %d); do docker network connect net$n %s; done", manyNetworks-1, from.Name))
	}
	return begin(t, from, to.IPAddress)
}

// The engine restarts, or is killed, with live-restore: nobody notices. Without it the engine ends its containers, and those
// with a restart policy come back, with their --ip; so they do when the host is rebooted.
func TestTrafficOutlivesEngine(t *testing.T) {
	c := cluster(t)
	h := c.Hosts[0]
	pooled(t, c.Hosts, "app", "10.54.0.0/24")
	_, blueAt := start(t, c.Hosts[1], "blue", "app")
	red, redAt := start(t, h, "red", "app", "--restart", "always", "--ip", "10.54.0.200")
	restarts := func(signal string) {
		shell(t, h, restartEngine(signal))
		ready(t, []*Host{h})
	}

	shell(t, h, `mkdir -p /etc/docker; echo '{"live-restore": true}' >/etc/docker/daemon.json; kill -HUP $(cat /run/docker.pid)`)
	eventually(t, "live-restore is on", settleTimeout, func() error {
		if out := shell(t, h, "docker info --format '{{.LiveRestoreEnabled}}'"); strings.TrimSpace(out) != "true" {
			return fmt.Errorf("it is %s", out)
		}
		return nil
	})
	f := begin(t, red, blueAt.IPAddress)
	for _, signal := range []string{"TERM", "KILL"} {
		restarts(signal)
		f.short(t, "dockerd ended by SIG"+signal+" with live-restore")
	}

	shell(t, h, `echo '{}' >/etc/docker/daemon.json; kill -HUP $(cat /run/docker.pid)`)
	for _, signal := range []string{"TERM", "KILL"} {
		restarts(signal)
		backAgain(t, red, redAt, blueAt.IPAddress)
	}
	boot(t, h, "restart")
	backAgain(t, red, redAt, blueAt.IPAddress)
	eventually(t, "addresses in use are the containers'", time.Minute, func() error { return leased(t, h) })
}

// backAgain waits for a container that its engine starts again, with the address it had.
func backAgain(t *testing.T, c *Container, want Attachment, peer netip.Addr) {
	t.Helper()
	eventually(t, c.Name+" runs again", time.Minute, func() error {
		_, err := c.Exec(t.Context(), "true")
		return err
	})
	if got := attachment(t, c, "app"); got.IPAddress != want.IPAddress {
		t.Errorf("%s has %s after a restart, had %s", c.Name, got.IPAddress, want.IPAddress)
	}
	reach(t, c, peer)
}
