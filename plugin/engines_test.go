package plugin

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/overlane/overlane/overlay/ipam"
)

// exchange is a method, a request and the answer to it.
type exchange struct {
	method, request, answer string
	failed                  bool
}

// record reads the exchanges of an engine from testdata, as contrib/record writes them.
func record(t *testing.T, name string) []exchange {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var all []exchange
	for block := range strings.SplitSeq(string(text), "\n\n") {
		var lines []string
		for line := range strings.Lines(block) {
			if !strings.HasPrefix(line, "#") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
		if len(lines) > 0 {
			last := len(lines) - 1
			answer, failed := strings.CutPrefix(lines[last], "! ")
			all = append(all, exchange{lines[0], strings.Join(lines[1:last], "\n"), strings.TrimPrefix(answer, "= "), failed})
		}
	}
	return all
}

// play does what an engine did, and after a Join moves the tap into the sandbox, as the engine does.
func (d *docker) play(all []exchange) {
	d.t.Helper()
	for _, e := range all {
		if got, code := d.call(e.method, e.request); got != e.answer || (code != 200) != e.failed {
			d.t.Fatalf("%s %s: %d %s\nwant %s", e.method, e.request, code, got, e.answer)
		}
		if e.method == "NetworkDriver.Join" {
			var join network.JoinRequest
			if err := json.Unmarshal([]byte(e.request), &join); err != nil {
				d.t.Fatal(err)
			}
			d.datapath.Taps.Move("overlane:"+join.EndpointID, join.SandboxKey)
		}
	}
}

// until gives the exchanges before the first one of a method.
func until(all []exchange, method string) []exchange {
	return all[:slices.IndexFunc(all, func(e exchange) bool { return e.method == method })]
}

func TestEngines(t *testing.T) {
	for name, scope := range map[string]string{
		"bookworm.txt": network.LocalScope, "trixie.txt": network.LocalScope, "forky.txt": network.LocalScope, "engine29.txt": network.LocalScope,
		"swarm.txt": network.GlobalScope,
	} {
		t.Run(name, func(t *testing.T) {
			d := readyWith(t, scope)
			d.cluster.Forget()
			d.play(record(t, name))
			s := d.overlay.Status()
			if len(s.Networks)+len(s.Endpoints)+len(d.overlay.Addresses().Leases)+len(d.datapath.Taps.All())+len(d.cluster.Seeds()) > 0 {
				t.Errorf("left: networks %+v, endpoints %+v, taps %v, seeds %v", s.Networks, s.Endpoints, d.datapath.Taps.All(), d.cluster.Seeds())
			}
		})
	}
}

// Engines tell of a container's sandbox when it joins: the others hear of the container, which keeps its interface.
func TestSandboxIsKnownByJoin(t *testing.T) {
	for _, name := range []string{"bookworm.txt", "trixie.txt", "forky.txt", "engine29.txt"} {
		t.Run(name, func(t *testing.T) {
			d := ready(t)
			d.cluster.Forget()
			played := until(record(t, name), "NetworkDriver.Leave")
			d.play(played)
			var join network.JoinRequest
			for _, e := range played {
				if e.method == "NetworkDriver.Join" {
					if err := json.Unmarshal([]byte(e.request), &join); err != nil {
						t.Fatal(err)
					}
				}
			}
			endpoints := d.overlay.Status().Endpoints
			if len(endpoints) != 2 {
				t.Fatalf("endpoints %+v, want web's two", endpoints)
			}
			for _, ep := range endpoints {
				if ep.Sandbox != join.SandboxKey || len(d.cluster.Own(ep.Network)) != 1 {
					t.Errorf("endpoint %+v, announced %v, want it in %s", ep, d.cluster.Own(ep.Network), join.SandboxKey)
				}
			}
		})
	}
}

func TestContainersNameIsShown(t *testing.T) {
	d := ready(t)
	d.cluster.Forget()
	d.play(until(record(t, "engine29.txt"), "NetworkDriver.Leave"))
	leases := d.overlay.Addresses().Leases
	named := slices.DeleteFunc(slices.Clone(leases), func(l ipam.LeaseStatus) bool { return l.Name != "web" })
	if len(named) != 2 {
		t.Errorf("addresses in use: %+v, want one of each family of container web", leases)
	}
}

func TestInterfaceOfIPv4Alone(t *testing.T) {
	for name, iface := range map[string]string{
		"left out": `{"Address":"10.20.0.2/16"}`,
		"empty":    `{"Address":"10.20.0.2/16","AddressIPv6":"","MacAddress":""}`,
		"null":     `{"Address":"10.20.0.2/16","AddressIPv6":null,"MacAddress":null}`,
	} {
		t.Run(name, func(t *testing.T) {
			d := ready(t)
			d.driver("CreateNetwork", create, `{}`)
			d.driver("CreateEndpoint", createEndpoint(iface), `{"Interface":{"Address":"","AddressIPv6":"","MacAddress":"02:42:0a:14:00:02"}}`)
			if addrs := d.datapath.Ports()[0].Addrs; len(addrs) != 1 || addrs[0].String() != "10.20.0.2" {
				t.Errorf("the port has %v, want 10.20.0.2 alone", addrs)
			}
		})
	}
}

// A swarm's nodes find each other without --join.
func TestSwarmsNodesAreJoined(t *testing.T) {
	d := readyWith(t, network.GlobalScope)
	d.play(until(record(t, "swarm.txt"), "NetworkDriver.DiscoverDelete"))
	if got := d.cluster.Seeds(); !slices.Equal(got, []string{"192.0.2.2"}) {
		t.Errorf("seeds %v, want the other node's address", got)
	}
	d.fails("DiscoverNew", `{"DiscoveryType":1,"DiscoveryData":{"Address":"node2","Self":false}}`, `Address "node2"`, "192.0.2.1")
}

// A swarm's node tells of itself, and asks for the scope, while Docker activates the plugin.
func TestActivationInSwarm(t *testing.T) {
	d := activateWith(t, network.GlobalScope)
	d.play(until(record(t, "swarm.txt"), "NetworkDriver.AllocateNetwork")[:3])
}

// allocate gives the options with which the nodes are to create a network.
func (d *docker) allocate(id, options string) map[string]string {
	d.t.Helper()
	text, _ := d.call("NetworkDriver.AllocateNetwork",
		`{"NetworkID":"`+id+`","Options":`+options+`,"IPv4Data":[{"AddressSpace":"","Pool":"10.0.31.0/24","Gateway":"10.0.31.1/24"}],"IPv6Data":null}`)
	var answer network.AllocateNetworkResponse
	if err := json.Unmarshal([]byte(text), &answer); err != nil || answer.Options == nil {
		d.t.Fatalf("AllocateNetwork: %s", text)
	}
	return answer.Options
}

// Every manager allocates a network the same; every node that gets its answer takes part in the same network.
func TestSwarmsNetworkOnAllNodes(t *testing.T) {
	manager, leader, worker := readyWith(t, network.GlobalScope), readyWith(t, network.GlobalScope), readyWith(t, network.GlobalScope)
	options := manager.allocate("net1", `{"com.docker.network.driver.mtu":"1400"}`)
	if again := manager.allocate("net1", `{"com.docker.network.driver.mtu":"1400"}`); !maps.Equal(options, again) {
		t.Errorf("allocated as %v, and again as %v", options, again)
	}
	text, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	if next := leader.allocate("net1", string(text)); !maps.Equal(options, next) {
		t.Errorf("allocated as %v, by the next leader as %v", options, next)
	}
	if other := leader.allocate("net2", `{}`); other["vni"] == options["vni"] {
		t.Errorf("two networks have %v and %v", options, other)
	}
	worker.driver("CreateNetwork", `{"NetworkID":"net1","Options":{"com.docker.network.generic":`+string(text)+`},"IPv4Data":[{"Pool":"10.0.31.0/24"}]}`, `{}`)
	if n := worker.overlay.Status().Networks[0]; n.Key != "vni="+options["vni"] || n.MTU != 1400 {
		t.Errorf("the node's network is %+v, want that of %v", n, options)
	}
	manager.driver("FreeNetwork", `{"NetworkID":"net1"}`, `{}`)
	manager.driver("FreeNetwork", `{"NetworkID":"net1"}`, `{}`)
}

// A name says on all nodes which network it is, and on hosts outside of the swarm.
func TestSwarmsNetworkByName(t *testing.T) {
	d := readyWith(t, network.GlobalScope)
	if options := d.allocate("net1", `{"network":"app"}`); !maps.Equal(options, map[string]string{"network": "app"}) {
		t.Errorf("allocated as %v", options)
	}
	d.fails("AllocateNetwork", `{"NetworkID":"net1","Options":{"colour":"blue"}}`, `option colour="blue"`, "known options")
}

// What a swarm's manager asks of its IPAM driver besides the user's options, and where it can't be of use.
func TestSwarmsAddresses(t *testing.T) {
	d := ready(t)
	d.cluster.Forget()
	options := `"Options":{"vni":"5000","RequestAddressType":"com.docker.network.gateway","com.docker.network.ipam.serial":"true"}`
	d.ipam("RequestPool", `{"AddressSpace":"overlane-local","Pool":"10.20.0.0/24","SubPool":"",`+options+`,"V6":false}`,
		`{"PoolID":"vni=5000 10.20.0.0/24","Pool":"10.20.0.0/24","Data":{}}`)
	d.ipam("RequestPool", `{"AddressSpace":"overlane-global","Pool":"10.21.0.0/24","SubPool":"","Options":null,"V6":false}`,
		"Err:address space overlane-global: a swarm's manager hands out the addresses")
	d.ipam("RequestPool", `{"AddressSpace":"overlane-local","Pool":"10.21.0.0/24","SubPool":"","Options":{"netwrok":"app"},"V6":false}`,
		`Err:ipam-opt netwrok=\"app\"`)
}
