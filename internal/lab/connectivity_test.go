//go:build lab

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tested is the part of `overlane connectivity -o json` that the tests look at.
type tested struct {
	OK      bool         `json:"ok"`
	Seconds float64      `json:"seconds"`
	Hosts   []testedHost `json:"hosts"`
	Pairs   []struct {
		From   string `json:"from"`
		To     string `json:"to"`
		OK     bool   `json:"ok"`
		Checks []struct {
			Name    string `json:"name"`
			OK      bool   `json:"ok"`
			Problem string `json:"problem"`
		} `json:"checks"`
		Reason string `json:"reason"`
	} `json:"pairs"`
}

type testedHost struct {
	Host    string           `json:"host"`
	Reason  string           `json:"reason"`
	Unwell  []map[string]any `json:"unwell"`
	Unnamed string           `json:"unnamed"`
}

// failing gives the pairs that fail, and why.
func (r tested) failing() map[string]string {
	all := map[string]string{}
	for _, p := range r.Pairs {
		if !p.OK {
			all[p.From+" "+p.To] = p.Reason
		}
	}
	return all
}

// untested gives the hosts that are not, and why.
func (r tested) untested() map[string]string {
	all := map[string]string{}
	for _, h := range r.Hosts {
		if h.Reason != "" {
			all[h.Host] = h.Reason
		}
	}
	return all
}

// connectivity runs the command, whose exit status must be that of what it found.
func connectivity(t *testing.T, h *Host, args string) (r tested) {
	t.Helper()
	began := time.Now()
	out, err := h.Exec(t.Context(), "sh", "-c", "overlane connectivity -o json "+args)
	took := time.Since(began)
	if failed := (*CommandError)(nil); errors.As(err, &failed) {
		out = failed.Stdout
	}
	if jsonErr := json.Unmarshal([]byte(out), &r); jsonErr != nil {
		t.Fatalf("%v: %v", err, jsonErr)
	}
	if r.OK != (err == nil) {
		t.Errorf("ok: %v, and the command: %v", r.OK, err)
	}
	if took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	t.Logf("%d hosts after %v", len(r.Hosts), took)
	return r
}

// green demands that all of so many hosts reach each other by all that is tested.
func green(t *testing.T, r tested, hosts int) {
	t.Helper()
	if !r.OK || len(r.Hosts) != hosts || len(r.Pairs) != hosts*(hosts-1) {
		t.Errorf("not all reach each other: %+v", r)
	}
	for _, p := range r.Pairs {
		if len(p.Checks) != 9 || slices.ContainsFunc(p.Checks, func(c struct {
			Name    string `json:"name"`
			OK      bool   `json:"ok"`
			Problem string `json:"problem"`
		}) bool {
			return !c.OK
		}) {
			t.Errorf("%s to %s: %+v", p.From, p.To, p.Checks)
		}
	}
}

// untested demands that nothing is left of a test: endpoints, networks, addresses, and namespaces that the daemon is in.
func untested(t *testing.T, c *Cluster, networks int) {
	t.Helper()
	everyHost(t, c, "has nothing left of a test", func(h *Host) error {
		if s := status(t, h); len(s.Networks) != networks || len(s.Endpoints)+len(s.Remote) > 0 {
			return fmt.Errorf("%+v", s)
		}
		spaces, err := h.Exec(lasting(t), "sh", "-c", "for t in /proc/$(cat /run/overlane.pid)/task/*; do readlink $t/ns/net || :; done | sort -u | wc -l; ip -o link | grep -cE ': ov[0-9a-f]{11}' || :; overlane ipam -o json | grep -c '\"addr\"' || :")
		if err == nil && strings.Join(strings.Fields(spaces), " ") != "1 0 0" {
			err = fmt.Errorf("namespaces, interfaces and addresses: %s", spaces)
		}
		return err
	})
}

// All hosts are tested with each other, on a network of the test's own and on one that is there; what is between two of them is named, with its
// direction; and nothing is left, also where the command is killed.
func TestConnectivity(t *testing.T) {
	c := cluster(t)
	acquainted(t, c)
	names := map[*Host]string{}
	for _, h := range c.Hosts {
		names[h] = strings.TrimSpace(shell(t, h, "hostname"))
	}
	one, two, three := c.Hosts[0], c.Hosts[1], c.Hosts[2]
	green(t, connectivity(t, one, ""), 3)
	untested(t, c, 0)
	shells(t, c.Hosts, func(*Host) string {
		return "docker network create -d overlane --ipam-driver overlane --ipv6 --subnet 10.66.0.0/24 --subnet fd66::/64 app"
	})
	green(t, connectivity(t, two, "-n app"), 3)
	untested(t, c, 1)

	drop := fmt.Sprintf("PREROUTING -s %s -p udp --dport 4789 -j DROP", one.Addr)
	shell(t, two, "iptables -t raw -A "+drop)
	stopDropping := func() { shell(t, two, "iptables -t raw -D "+drop+" 2>/dev/null || :") }
	putBack(t, stopDropping)
	r := connectivity(t, three, "")
	want := fmt.Sprintf("UDP port 4789 does not pass from %s to %s", names[one], names[two])
	bad := r.failing()
	if len(bad) != 2 || !strings.Contains(bad[names[one]+" "+names[two]], want) || !strings.Contains(bad[names[two]+" "+names[one]], want) {
		t.Errorf("failing: %q, want two that say %s", bad, want)
	}
	untested(t, c, 1)
	t.Log("\n" + shell(t, three, "overlane connectivity 2>&1 || :"))

	killed := "overlane connectivity >/dev/null 2>&1 & pid=$!; timeout 10 sh -c 'until ip netns list >/dev/null; overlane status | grep -q overlane-test; do sleep 0.05; done'; kill -9 $pid"
	shell(t, three, killed)
	untested(t, c, 1)
	shell(t, three, "overlane connectivity >/dev/null 2>&1 & timeout 10 sh -c 'until overlane status | grep -q overlane-test; do sleep 0.05; done'; kill -9 $(cat /run/overlane.pid); wait || :; "+asService)
	stopDropping() // not before: without it the test may end before anybody sees it
	ready(t, []*Host{three})
	acquainted(t, c)
	untested(t, c, 1)
	green(t, connectivity(t, one, ""), 3)
	// As a service it does not see what Docker mounts from now on: other tests want another one.
	shell(t, three, "kill -9 $(cat /run/overlane.pid); start-overlane")
	ready(t, []*Host{three})
	acquainted(t, c)

	shell(t, two, "kill -STOP $(cat /run/overlane.pid)")
	putBack(t, func() { shell(t, two, "kill -CONT $(cat /run/overlane.pid)") })
	r = connectivity(t, one, "")
	if r.OK || len(r.Pairs) != 2 || r.untested()[names[two]] == "" {
		t.Errorf("with a daemon that hangs: %+v", r)
	}
	shell(t, two, "kill -CONT $(cat /run/overlane.pid)")
	acquainted(t, c)
	untested(t, c, 1)
	shells(t, c.Hosts, func(*Host) string { return "docker network rm app" })
}

// Each kind of black hole is told apart.
func TestConnectivityNamesCauses(t *testing.T) {
	c := cluster(t)
	acquainted(t, c)
	one, two := c.Hosts[0], c.Hosts[1]
	name := func(h *Host) string { return strings.TrimSpace(shell(t, h, "hostname")) }
	// Flows that are tracked already would keep their addresses.
	rule := func(h *Host, table, rule string) func() {
		do := func(how string) {
			shell(t, h, fmt.Sprintf("iptables -t %s -%s %s; conntrack -D -p udp --dport 4789 >/dev/null 2>&1 || :", table, how, rule))
		}
		do("A")
		undo := sync.OnceFunc(func() { do("D") })
		putBack(t, undo)
		return undo
	}
	for _, hole := range []struct {
		name string
		dig  func() (fill func())
		args string
		want string // in the cause of each pair that fails
		bad  int    // of these there are so many
	}{
		{"MTU", func() func() {
			return rule(two, "raw", "PREROUTING -p udp --dport 4789 -m length --length 1351: -j DROP")
		}, "", "packets of up to 1300 bytes pass, and not those of 1450", 4},
		{"another VTEP", func() func() {
			return rule(one, "nat", fmt.Sprintf("POSTROUTING -p udp --dport 4789 -d %s -j SNAT --to-source 192.0.2.77", two.Addr))
		}, "", fmt.Sprintf("packets of %s come to %s from another address than %s, its VTEP", name(one), name(two), one.Addr), 2},
		{"dead worker", func() func() {
			named := func(want bool) func() error {
				return func() error {
					if text := shell(t, two, "overlane status"); strings.Contains(text, "NOT RUNNING, so that packets wait") != want {
						return errors.New(text)
					}
					return nil
				}
			}
			thaw := freeze(t, two)
			eventually(t, "status names the worker", settleTimeout, named(true))
			return func() {
				thaw()
				eventually(t, "status does so no more", settleTimeout, named(false))
			}
		}, "", "the packet workers of " + name(two) + " take no packets from containers", 4},
		{"encryption", func() func() { return unlike(t, c) }, "-n app", "the network is encrypted on " + name(two) + ", and plain on ", 4},
	} {
		fill := hole.dig()
		bad := connectivity(t, c.Hosts[2], hole.args).failing()
		for pair, cause := range bad {
			if !strings.Contains(cause, hole.want) && !strings.Contains(cause, "plain on "+strings.Fields(pair)[0]+", and encrypted on "+name(two)) {
				t.Errorf("%s: %s: %q, want %q", hole.name, pair, cause, hole.want)
			}
		}
		if len(bad) != hole.bad {
			t.Errorf("%s: failing are %q", hole.name, bad)
		}
		fill()
	}
	green(t, connectivity(t, one, ""), 3)
}

// A container whose interface somebody changed is named by its host, and is well when it is started anew; a host whose containers have no names says so.
func TestConnectivityNamesContainer(t *testing.T) {
	c := cluster(t)
	acquainted(t, c)
	one, two := c.Hosts[0], c.Hosts[1]
	network(t, c.Hosts[:2], "app", 20)
	box, _ := start(t, two, "box", "app")
	other, _ := start(t, one, "other", "app")
	inBox := func(command string) {
		shell(t, two, "nsenter --net=$(docker inspect -f '{{.NetworkSettings.SandboxKey}}' box) "+command)
	}
	tell := func(want string) { // empty: that it is well
		t.Helper()
		eventually(t, "its host tells of it", settleTimeout, func() error {
			r := connectivity(t, one, "")
			told := ""
			for _, h := range r.Hosts {
				for _, u := range h.Unwell {
					told += fmt.Sprint(u["what"], ": ", u["reason"])
				}
			}
			if r.OK != (want == "") || !strings.Contains(told, want) || (told == "") != r.OK || len(r.failing()) > 0 {
				return fmt.Errorf("%q, want %q", told, want)
			}
			return nil
		})
	}
	inBox("ip link set eth0 address 02:00:00:00:00:99")
	tell("container box on subnet=10.20.0.0/16: its interface eth0 has MAC address 02:00:00:00:00:99, not ")
	shell(t, two, "docker restart -t 0 box")
	tell("")
	a := attachment(t, box, "app")
	inBox(fmt.Sprintf("ip addr del %s/16 dev eth0", a.IPAddress))
	tell(fmt.Sprint("container box on subnet=10.20.0.0/16: its interface eth0 has lost address ", a.IPAddress))
	if out, err := two.Exec(t.Context(), "overlane", "trace", "--simulate", "-n", "app", "other", "box"); err == nil || !strings.Contains(fmt.Sprint(out, err), "has lost address") {
		t.Errorf("the trace: %s, %v", out, err)
	}
	shell(t, two, "docker restart -t 0 box")
	tell("")
	reach(t, other, attachment(t, box, "app").IPAddress)

	shell(t, two, stopDaemon+"; export OVERLANE_DOCKER_SOCKET=none; start-overlane")
	putBack(t, func() { shell(t, two, stopDaemon+"; start-overlane"); ready(t, []*Host{two}) })
	ready(t, []*Host{two})
	acquainted(t, c)
	start(t, two, "late", "app")
	if r := connectivity(t, one, ""); !r.OK || !slices.ContainsFunc(r.Hosts, func(h testedHost) bool { return h.Unnamed != "" }) {
		t.Errorf("with a host that does not ask Docker for names: %+v", r.Hosts)
	}
}

// The way out is tested from a container of each host that has one: a rule that keeps containers of one host in makes its pairs fail, and no others.
func TestConnectivityOfEgress(t *testing.T) {
	c := cluster(t)
	acquainted(t, c)
	one, two := c.Hosts[0], c.Hosts[1]
	network(t, c.Hosts[:2], "app", 20)
	start(t, one, "box", "app")
	start(t, two, "box", "app")
	green(t, connectivity(t, one, ""), 3)
	if r := connectivity(t, c.Hosts[2], "--egress"); !r.OK {
		t.Errorf("failing: %q", r.failing())
	}
	const rule = " FORWARD -i docker_gwbridge -p icmp -j DROP"
	open := sync.OnceFunc(func() { shell(t, one, "iptables -D"+rule) })
	putBack(t, open)
	shell(t, one, "iptables -I"+rule)
	bad := connectivity(t, two, "--egress").failing()
	open()
	name := strings.TrimSpace(shell(t, one, "hostname"))
	for pair, why := range bad {
		if !strings.HasPrefix(pair, name) || !strings.Contains(why, "containers of "+name+" get no answer from") {
			t.Errorf("%s: %q", pair, why)
		}
	}
	if len(bad) != 2 {
		t.Errorf("failing: %q", bad)
	}
}

// A host whose table of MAC addresses is full is named, with the table.
func TestConnectivityNamesFullTable(t *testing.T) {
	const vni, more = 5000, 1<<17 + 100 // than there is room for
	c := cluster(t)
	acquainted(t, c)
	two := c.Hosts[1]
	restartWith(t, []*Host{two}, func(*Host) string {
		return fmt.Sprintf(`awk 'BEGIN { for (i = 0; i < %d; i++) printf "%d 02:77:%%02x:%%02x:%%02x:%%02x 10.%%d.%%d.%%d 192.0.2.9\n", i/16777216, i/65536%%256, i/256%%256, i%%256, 20+i/65536, i/256%%256, i%%256 }' >/etc/static; export OVERLANE_STATIC=/etc/static`, more, vni)
	})
	network(t, c.Hosts, "app", 20, "--opt", fmt.Sprint("vni=", vni))
	acquainted(t, c)
	eventually(t, "the table is full", settleTimeout, func() error {
		r := connectivity(t, c.Hosts[0], "")
		if why := r.untested()[strings.TrimSpace(shell(t, two, "hostname"))]; r.OK || !strings.Contains(why, "is full: it has room for") {
			return fmt.Errorf("%q", why)
		}
		return nil
	})
}

// freeze stops the packet worker of a host's daemon, and no other thread of it.
func freeze(t *testing.T, h *Host) (thaw func()) {
	t.Helper()
	own, err := os.Readlink(h.proc("ns/pid"))
	must(t, err)
	comms, err := filepath.Glob("/proc/[0-9]*/task/[0-9]*/comm")
	must(t, err)
	worker := 0
	for _, comm := range comms {
		called, _ := os.ReadFile(comm) // threads come and go
		at, _ := os.Readlink(filepath.Join(filepath.Dir(comm), "ns/pid"))
		if strings.Contains(string(called), "-worker") && at == own {
			worker, err = strconv.Atoi(filepath.Base(filepath.Dir(comm)))
			must(t, err)
		}
	}
	frozen, end, thawed := make(chan error), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(thawed)
		runtime.LockOSThread() // for good: the thread that attaches is the one that may detach
		err := unix.PtraceAttach(worker)
		if err == nil {
			_, err = unix.Wait4(worker, nil, unix.WALL, nil)
		}
		frozen <- err
		<-end
		unix.PtraceDetach(worker)
	}()
	if err := <-frozen; err != nil {
		t.Fatalf("freeze thread %d of %s: %v", worker, h.Name, err)
	}
	return func() { close(end); <-thawed }
}

// unlike has the second host make a network encrypted that the others have in plain, while it is cut off from them.
func unlike(t *testing.T, c *Cluster) (undo func()) {
	t.Helper()
	create := func(options string) string {
		return "docker network create -d overlane --ipam-driver overlane --ipv6 --subnet 10.66.0.0/24 --subnet fd66::/64 " + options + " app"
	}
	two := c.Hosts[1]
	cut := func(how string) {
		var script strings.Builder
		for _, chain := range []string{"INPUT", "OUTPUT"} {
			for _, proto := range []string{"tcp", "udp"} {
				fmt.Fprintf(&script, "iptables -%s %s -p %s --dport 7950 -j DROP\n", how, chain, proto)
			}
		}
		shell(t, two, script.String())
	}
	join := sync.OnceFunc(func() { cut("D") })
	putBack(t, join)
	cut("A")
	everyHost(t, c, "sees them apart", func(h *Host) error {
		up := 2
		if h == two {
			up = 1
		}
		return errors.Join(alive(t, h, up), members(t, h, "suspect", 0)) // who is asked for its addresses yet
	})
	shells(t, c.Hosts, func(h *Host) string {
		if h == two {
			return create("-o encrypted")
		}
		return create("")
	})
	join()
	acquainted(t, c)
	// Both sides have claimed the subnets: one claim counts in the end. Of pools that other tests have left it may be another.
	eventually(t, "the hosts agree on whose the addresses are", settleTimeout, func() error {
		seen := map[string]string{}
		for _, h := range c.Hosts {
			seen[shell(t, h, "overlane ipam -o json | jq -c '[.blocks[] | select(.subnet == (\"10.66.0.0/24\", \"fd66::/64\")) | [.subnet, .node, .addresses]] | sort'")] = h.Name
		}
		if len(seen) > 1 {
			return fmt.Errorf("%v", seen)
		}
		return nil
	})
	return func() { shells(t, c.Hosts, func(*Host) string { return "docker network rm app" }) }
}
