//go:build lab

package lab

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Whatever is restarted, traffic that runs goes on: these tests send an echo request every 10 ms and a TCP stream from
// red to blue meanwhile, and look for the longest time without a reply. None may be longer than this.
const outage = time.Second

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
	eventually(t, "replies come", settled, func() error {
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

// killed demands that the gap is short, by the median of three kills.
func (f *flow) killed(t *testing.T, h *Host, kill string) {
	t.Helper()
	var gaps []time.Duration
	for range 3 {
		shell(t, h, kill)
		gaps = append(gaps, f.gap(t, "overlane killed on "+h.Name))
	}
	if gap := median(gaps); gap >= outage {
		t.Errorf("overlane killed on %s: %v without a reply, want less than %v", h.Name, gap, outage)
	}
}

// The daemon of either host is killed under traffic, with a hundred endpoints: it takes all back.
func TestTrafficOutlivesDaemon(t *testing.T) {
	c := up(t, 2)
	f := crowd(t, c, "overlane")
	if n := len(status(t, f.from.Host).Endpoints); n != crowded {
		t.Fatalf("%d endpoints, want %d", n, crowded)
	}
	for _, h := range c.Hosts {
		f.killed(t, h, "kill -9 $(cat /run/overlane.pid); start-overlane")
	}
}

// So does the managed plugin, which Docker starts again.
func TestTrafficOutlivesPlugin(t *testing.T) {
	c := up(t, 2)
	installPlugin(t, c, "OVERLANE_JOIN="+c.Hosts[0].Addr.String())
	pluginsMeet(t, c)
	f := crowd(t, c, pluginDriver)
	for _, h := range c.Hosts {
		f.killed(t, h, "kill -9 $(pidof overlane)")
	}
}

// crowded is how many endpoints the first host of a crowd has.
const crowded = 100

// crowd puts ten containers on ten networks each, and has one of them send to another host.
func crowd(t *testing.T, c *Cluster, driver string) *flow {
	t.Helper()
	const networks = 10
	for n := range networks {
		for _, h := range c.Hosts {
			_, err := h.Docker(t.Context(), "network", "create", "-d", driver, "--ipam-driver", driver, "--subnet", fmt.Sprintf("10.2%d.0.0/24", n), fmt.Sprint("net", n))
			must(t, err)
		}
	}
	_, to := start(t, c.Hosts[1], "blue", "net0")
	var from *Container
	for i := range crowded / networks {
		from, _ = start(t, c.Hosts[0], fmt.Sprint("red", i), "net0")
		for n := 1; n < networks; n++ {
			_, err := c.Hosts[0].Docker(t.Context(), "network", "connect", fmt.Sprint("net", n), from.Name)
			must(t, err)
		}
	}
	return begin(t, from, to.IPAddress)
}

// The engine restarts, or is killed, with live-restore: nobody notices. Without it the engine ends its containers, and those
// with a restart policy come back, with their --ip; so they do when the host is rebooted.
func TestTrafficOutlivesEngine(t *testing.T) {
	c := up(t, 2)
	h := c.Hosts[0]
	pooled(t, c.Hosts, "app", "10.20.0.0/24")
	_, blueAt := start(t, c.Hosts[1], "blue", "app")
	red, redAt := start(t, h, "red", "app", "--restart", "always", "--ip", "10.20.0.200")
	restarts := func(signal string) {
		shell(t, h, "old=$(cat /run/docker.pid); kill -"+signal+" $old; tail --pid=$old -f /dev/null")
		eventually(t, "the engine is back", time.Minute, func() error { return h.ready(t.Context()) })
	}

	shell(t, h, `mkdir -p /etc/docker; echo '{"live-restore": true}' >/etc/docker/daemon.json; kill -HUP $(cat /run/docker.pid)`)
	eventually(t, "live-restore is on", settled, func() error {
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
	_, err := docker(context.WithoutCancel(t.Context()), "restart", h.Name)
	must(t, err)
	eventually(t, "the host is back", time.Minute, func() error { return h.ready(t.Context()) })
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
