//go:build lab

package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// collected is when what nobody gives back is collected: an endpoint after half a minute, then its addresses.
const collected = 90 * time.Second

// pooled creates a network with addresses from the cluster's pool: the same command on every host.
func pooled(t *testing.T, hosts []*Host, name, subnet string, options ...string) {
	t.Helper()
	shells(t, hosts, func(*Host) string {
		return fmt.Sprintf("docker network create -d overlane --ipam-driver overlane --subnet %s %s %s", subnet, strings.Join(options, " "), name)
	})
}

// hostAddresses is the part of `overlane ipam -o json` that the tests look at.
type hostAddresses struct {
	Blocks    []hostBlock
	Addresses []struct {
		Address  netip.Addr
		MAC      string
		Endpoint string
	}
	Pools     []hostPool
	Conflicts []struct{}
}

type hostPool struct{ Key, Subnet, State string }

type hostBlock struct {
	Host, Subnet, State string
	Addresses           uint64
}

// blocks are those of a subnet: other tests may have left some of theirs.
func (a hostAddresses) blocks(subnet string) []hostBlock {
	return slices.DeleteFunc(a.Blocks, func(b hostBlock) bool { return b.Subnet != subnet })
}

// ready are the pools of the host's networks: one without is known for a while, for what other hosts still give to this one.
func (a hostAddresses) ready() []hostPool {
	return slices.DeleteFunc(a.Pools, func(p hostPool) bool { return p.State == "leaving" })
}

func addresses(t *testing.T, h *Host) hostAddresses {
	t.Helper()
	var a hostAddresses
	must(t, json.Unmarshal([]byte(shell(t, h, "overlane ipam -o json")), &a))
	return a
}

// leased demands that the addresses in use on a host are those of its running containers.
func leased(t *testing.T, h *Host) error {
	t.Helper()
	var used []string
	for _, a := range addresses(t, h).Addresses {
		used = append(used, a.Address.String())
	}
	out := shell(t, h, "docker ps -q | xargs -r docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}'")
	have := strings.Fields(out)
	slices.Sort(used)
	slices.Sort(have)
	if !slices.Equal(used, have) {
		return fmt.Errorf("addresses in use: %s; containers have: %s", used, have)
	}
	return nil
}

// runMany begins to start so many containers on a host, and gives a function that waits until it has ended.
func runMany(t *testing.T, h *Host, network string, containers int) (end func()) {
	t.Helper()
	shell(t, h, fmt.Sprintf(`seq %d | setsid xargs -P 2 -I{} timeout -s KILL 60 docker run -d --network %s box sleep infinity >/run/starting 2>&1 &
		echo $! >/run/starting.pid`, containers, network))
	return func() { shell(t, h, ends+"$(cat /run/starting.pid)") }
}

// Whoever is killed in the middle of many `docker run`: afterwards the addresses in use are the containers', and all can be
// given back.
func TestKilledWhileStarting(t *testing.T) {
	c := cluster(t)
	pooled(t, c.Hosts, "app", "10.50.0.0/24")
	killed := time.Now()
	for i, victims := range []string{"overlane", "dockerd", "overlane dockerd"} {
		killWhileStarting(t, c.Hosts[i], victims)
	}
	t.Logf("killed and started again within %v", time.Since(killed))
	// Most of the time each waits for what nobody gives back to be collected.
	everywhere := func(what string, so func(*Host) error) {
		t.Helper()
		eventually(t, what, collected, func() error {
			for _, h := range c.Hosts {
				if err := so(h); err != nil {
					return fmt.Errorf("%s: %w", h.Name, err)
				}
			}
			return nil
		})
	}
	everywhere("addresses in use are the containers'", func(h *Host) error { return leased(t, h) })
	t.Logf("the addresses agree after %v", time.Since(killed))
	shells(t, c.Hosts, func(*Host) string { return "docker ps -aq | xargs -r docker rm -f" })
	everywhere("all addresses are given back", func(h *Host) error { return leased(t, h) })
	everywhere("all endpoints are gone", func(h *Host) error {
		if n := len(status(t, h).Endpoints); n > 0 {
			return fmt.Errorf("%d endpoints", n)
		}
		return nil
	})
}

// killWhileStarting kills some of a host's daemons while it starts many containers.
func killWhileStarting(t *testing.T, h *Host, victims string) {
	t.Helper()
	end := runMany(t, h, "app", killedContainers)
	eventually(t, "some containers run", startTimeout, func() error {
		if n := len(strings.Fields(shell(t, h, "docker ps -q"))); n < killedContainers/4 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	shell(t, h, "pkill -9 -x '"+strings.ReplaceAll(victims, " ", "|")+"'")
	if strings.Contains(victims, "overlane") {
		shell(t, h, "start-overlane")
	}
	ready(t, []*Host{h})
	end()
}

// A host that is lost for good: its addresses come back, those of its last containers last. When it returns after all it
// hands out none of them.
func TestHostLost(t *testing.T) {
	c := cluster(t)
	pooled(t, c.Hosts, "app", "10.51.0.0/26")
	lost := c.Hosts[2]
	last := map[netip.Addr]bool{}
	for i := range 3 {
		_, at := start(t, lost, fmt.Sprint("last", i), "app")
		last[at.IPAddress] = true
	}
	name := strings.TrimSpace(shell(t, lost, "hostname"))
	kill(t, lost)
	eventually(t, "the host is found dead and gives way", withdrawn, func() error {
		_, err := c.Hosts[0].Exec(t.Context(), "overlane", "ipam", "reclaim", name)
		return err
	})
	everyHost(t, &Cluster{Hosts: c.Hosts[:2]}, "knows the new owner", func(h *Host) error {
		for _, b := range addresses(t, h).blocks("10.51.0.0/26") {
			if b.Host == name {
				return fmt.Errorf("%d addresses are still %s's", b.Addresses, name)
			}
		}
		return nil
	})

	ipam := docked(t, c.Hosts[0])
	id := "subnet=10.51.0.0/26 10.51.0.0/26"
	got := ipam.fill(t, id)
	if len(got) != 61 {
		t.Fatalf("%d addresses, want all 61", len(got))
	}
	for _, addr := range got[len(got)-len(last):] {
		if !last[addr] {
			t.Errorf("%s is among the last ones, the lost host's containers had %v", addr, last)
		}
	}
	for _, addr := range got[:10] {
		ipam.release(t, id, addr)
	}

	boot(t, lost, "start")
	_, at := start(t, lost, "back", "app")
	if !slices.Contains(got[:10], at.IPAddress) {
		t.Errorf("the host that came back hands out %s, which is in use; %v are free", at.IPAddress, got[:10])
	}
	eventually(t, "its old containers hold nothing", time.Minute, func() error { return leased(t, lost) })
}

// What a dead host ran with an address of its own starts on one of those that try, and is reached; the dead host does not start it
// when it is back.
func TestAddressOfADeadHost(t *testing.T) {
	const addr = "10.53.0.9"
	c := cluster(t)
	pooled(t, c.Hosts, "app", "10.53.0.0/26")
	dead, survivors := c.Hosts[2], &Cluster{Hosts: c.Hosts[:2]}
	db, _ := start(t, dead, "db", "app", "--ip", addr)
	id := strings.TrimSpace(shell(t, dead, "overlane status -o json | jq -r .node.id"))
	kill(t, dead)
	everyHost(t, survivors, "finds the host dead", func(h *Host) error {
		for _, m := range status(t, h).Members {
			if m.ID == id && m.State != "dead" {
				return fmt.Errorf("%s is %s", m.Host, m.State)
			}
		}
		return nil
	})
	known := time.Now()
	refusals := make([]error, len(survivors.Hosts))
	var running sync.WaitGroup
	for i, h := range survivors.Hosts {
		running.Go(func() { _, refusals[i] = h.Run(t.Context(), "db", "--network", "app", "--ip", addr) })
	}
	running.Wait()
	t.Logf("both have an answer %v after the host's death was known", time.Since(known))
	if (refusals[0] == nil) == (refusals[1] == nil) {
		t.Fatalf("want one container with the address: %v, %v", refusals[0], refusals[1])
	}
	other := survivors.Hosts[0]
	if refusals[0] == nil {
		other = survivors.Hosts[1]
	}
	client, _ := start(t, other, "client", "app")
	reach(t, client, netip.MustParseAddr(addr))

	boot(t, dead, "start")
	if _, err := dead.Docker(t.Context(), "start", db.Name); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("the container starts on the host that is back: %v, want that the address is in use", err)
	}
	reach(t, client, netip.MustParseAddr(addr))
}

// A host that leaves for good gives its addresses to the others; while it has containers it can't. It may come back as a new one.
func TestHostLeavesForGood(t *testing.T) {
	c := cluster(t)
	pooled(t, c.Hosts, "app", "10.52.0.0/26")
	leaves := c.Hosts[2]
	red, at := start(t, leaves, "red", "app")
	_, err := leaves.Exec(t.Context(), "overlane", "leave")
	if want := "address " + at.IPAddress.String() + " of subnet=10.52.0.0/26 is in use by a container"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("overlane leave beside a container: %v, want an error with %q", err, want)
	}
	must(t, red.Remove(t.Context()))
	_, err = leaves.Docker(t.Context(), "network", "rm", "app")
	must(t, err)
	said := shell(t, leaves, "overlane leave")
	if !strings.Contains(said, "this host has left") {
		t.Errorf("overlane leave says %q", said)
	}
	shell(t, leaves, ends+"$(cat /run/overlane.pid)")
	everyHost(t, &Cluster{Hosts: c.Hosts[:2]}, "has a part of all addresses", func(h *Host) error {
		var all uint64
		for _, b := range addresses(t, h).blocks("10.52.0.0/26") {
			if b.State != "self" && b.State != "up" {
				return fmt.Errorf("%d addresses of %s, which is %s", b.Addresses, b.Host, b.State)
			}
			all += b.Addresses
		}
		if all != 61 {
			return fmt.Errorf("%d addresses, want 61", all)
		}
		return nil
	})

	shell(t, leaves, "start-overlane")
	ready(t, []*Host{leaves})
	acquainted(t, c)
	pooled(t, []*Host{leaves}, "app", "10.52.0.0/26")
	_, back := start(t, leaves, "back", "app")
	_, other := start(t, c.Hosts[0], "other", "app")
	if back.IPAddress == other.IPAddress {
		t.Errorf("two containers have %s", back.IPAddress)
	}
}

// ipamClient asks a host's plugin as its engine does.
type ipamClient struct{ http.Client }

func docked(t *testing.T, h *Host) *ipamClient {
	socket := h.proc("root/run/docker/plugins/overlane.sock")
	c := &ipamClient{http.Client{Timeout: commandTimeout}}
	c.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// call gives the address in the answer, or what the error says.
func (c *ipamClient) call(t *testing.T, method string, body map[string]any) (address, refusal string) {
	t.Helper()
	text, err := json.Marshal(body)
	must(t, err)
	r, err := c.Post("http://plugin/IpamDriver."+method, "application/json", bytes.NewReader(text))
	must(t, err)
	defer r.Body.Close()
	var answer struct{ Address, Err string }
	must(t, json.NewDecoder(r.Body).Decode(&answer))
	return answer.Address, answer.Err
}

// ask makes a call that must not be refused.
func (c *ipamClient) ask(t *testing.T, method string, body map[string]any) {
	t.Helper()
	if _, refusal := c.call(t, method, body); refusal != "" {
		t.Fatal(refusal)
	}
}

func (c *ipamClient) release(t *testing.T, pool string, addr netip.Addr) {
	t.Helper()
	c.ask(t, "ReleaseAddress", map[string]any{"PoolID": pool, "Address": addr.String()})
}

// fill takes addresses until there are no more.
func (c *ipamClient) fill(t *testing.T, pool string) []netip.Addr {
	t.Helper()
	var all []netip.Addr
	for {
		got, refusal := c.call(t, "RequestAddress", map[string]any{"PoolID": pool})
		if refusal != "" {
			if !strings.Contains(refusal, "has no free address") {
				t.Fatal(refusal)
			}
			return all
		}
		prefix, err := netip.ParsePrefix(got)
		must(t, err)
		all = append(all, prefix.Addr())
	}
}

// Three hosts fill a pool to the last address, twice: none is handed out twice and none is left.
func TestPoolFills(t *testing.T) {
	pool := "subnet=" + filledSubnet + " " + filledSubnet
	usable := 1<<(32-netip.MustParsePrefix(filledSubnet).Bits()) - 3 // but the network's, the broadcast address and the gateway
	c := cluster(t)
	var clients []*ipamClient
	for _, h := range c.Hosts {
		client := docked(t, h)
		clients = append(clients, client)
		client.ask(t, "RequestPool", map[string]any{"Pool": filledSubnet})
		client.ask(t, "RequestAddress", map[string]any{"PoolID": pool, "Options": map[string]string{"RequestAddressType": "com.docker.network.gateway"}})
		putBack(t, func() {
			client.release(t, pool, netip.MustParsePrefix(filledSubnet).Addr().Next())
			client.ask(t, "ReleasePool", map[string]any{"PoolID": pool})
		})
	}
	everyHost(t, c, "has a block of its own", func(h *Host) error {
		for _, b := range addresses(t, h).blocks(filledSubnet) {
			if b.State == "self" {
				return nil
			}
		}
		return fmt.Errorf("not yet")
	})
	for range 2 {
		began := time.Now()
		got := make([][]netip.Addr, len(clients))
		all(clients, func(i int, client *ipamClient) { got[i] = client.fill(t, pool) })
		seen := map[netip.Addr]bool{}
		for _, addr := range slices.Concat(got...) {
			if seen[addr] {
				t.Errorf("%s was handed out twice", addr)
			}
			seen[addr] = true
		}
		if len(seen) != usable {
			t.Errorf("%d addresses were handed out, want %d", len(seen), usable)
		}
		t.Logf("filled in %v: %d, %d, %d", time.Since(began), len(got[0]), len(got[1]), len(got[2]))
		all(clients, func(i int, client *ipamClient) {
			for _, addr := range got[i] {
				client.release(t, pool, addr)
			}
		})
	}
}

// all calls do for each client at once.
func all(clients []*ipamClient, do func(int, *ipamClient)) {
	var running sync.WaitGroup
	for i, client := range clients {
		running.Go(func() { do(i, client) })
	}
	running.Wait()
}
