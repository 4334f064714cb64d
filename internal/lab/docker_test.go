//go:build lab

package lab

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// What Docker's own commands promise of a network must hold on an overlay, between hosts.
func TestDocker(t *testing.T) {
	c := cluster(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *Cluster)
	}{
		{"Connect", testConnect},
		{"Internal", testInternal},
		{"Spoofed", testSpoofed},
		{"Trust", testTrust},
		{"NativePort", testNativePort},
		{"LinkLocal", testLinkLocal},
		{"Addresses", testAddresses},
		{"TakenAddress", testTakenAddress},
		{"SeveralNetworks", testSeveralNetworks},
		{"SameSubnet", testSameSubnet},
		{"Options", testOptions},
		{"SharedVNI", testSharedVNI},
		{"MTU", testMTU},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					saveLogs(t, c)
				}
				empty(t, c.Hosts)
			}()
			test.run(t, c)
		})
	}
}

func testConnect(t *testing.T, c *Cluster) {
	network(t, c.Hosts[:2], "app", 20)
	red, err := c.Hosts[0].Run(t.Context(), "red")
	must(t, err)
	_, blueAt := start(t, c.Hosts[1], "blue", "app")
	unreachable(t, red, blueAt.IPAddress)

	for range 2 {
		_, err = red.Host.Docker(t.Context(), "network", "connect", "--ip", "10.20.1.9", "app", red.Name)
		must(t, err)
		reach(t, red, blueAt.IPAddress, blueAt.GlobalIPv6Address)
		_, err = red.Host.Docker(t.Context(), "network", "disconnect", "app", red.Name)
		must(t, err)
		unreachable(t, red, blueAt.IPAddress)
		eventually(t, "the other host forgets the container", settleTimeout, func() error { return remotes(t, c.Hosts[1], 0) })
	}
}

func testInternal(t *testing.T, c *Cluster) {
	network(t, c.Hosts[:2], "app", 20, "--internal")
	red, _ := start(t, c.Hosts[0], "red", "app")
	_, blueAt := start(t, c.Hosts[1], "blue", "app")
	reach(t, red, blueAt.IPAddress, blueAt.GlobalIPv6Address)
	unreachable(t, red, c.Hosts[1].Addr)
	routes, err := red.Exec(t.Context(), "ip", "route", "show", "default")
	must(t, err)
	if routes != "" {
		t.Errorf("a container on an internal network has a default route: %s", routes)
	}
}

// A container that takes an address Docker did not give it speaks to nobody, and the operator sees why.
func testSpoofed(t *testing.T, c *Cluster) {
	const stolen = "10.20.9.9"
	network(t, c.Hosts[:2], "app", 20)
	red, _ := start(t, c.Hosts[0], "red", "app", "--cap-add", "NET_ADMIN")
	_, blueAt := start(t, c.Hosts[1], "blue", "app")
	reach(t, red, blueAt.IPAddress)
	before := status(t, red.Host).Datapath.Drops["spoofed_ip"]
	_, err := red.Exec(t.Context(), "ip", "address", "add", stolen+"/32", "dev", "eth0")
	must(t, err)
	if _, err := red.Ping(t.Context(), blueAt.IPAddress, 3, "-I", stolen); err == nil {
		t.Errorf("a container with the stolen address %s is answered", stolen)
	}
	if dropped := status(t, red.Host).Datapath.Drops["spoofed_ip"] - before; dropped == 0 {
		t.Error("overlane status counts no drop called spoofed_ip")
	}
}

func testAddresses(t *testing.T, c *Cluster) {
	const (
		mac  = "02:42:aa:bb:cc:dd"
		addr = "10.20.1.77"
		six  = "fd00:20::1:77"
	)
	network(t, c.Hosts[:2], "app", 20)
	red, redAt := start(t, c.Hosts[0], "red", "app", "--ip", addr, "--ip6", six, "--mac-address", mac)
	if redAt.IPAddress.String() != addr || redAt.GlobalIPv6Address.String() != six || redAt.MacAddress != mac {
		t.Errorf("docker tells %+v, want %s, %s and %s", redAt, addr, six, mac)
	}
	links, err := red.Exec(t.Context(), "ip", "address", "show", "dev", "eth0")
	must(t, err)
	for _, want := range []string{mac, addr + "/16", six + "/64"} {
		if !strings.Contains(links, want) {
			t.Errorf("the container's interface has no %s: %s", want, links)
		}
	}
	blue, _ := start(t, c.Hosts[1], "blue", "app")
	reach(t, blue, redAt.IPAddress, redAt.GlobalIPv6Address)
	neighbour, err := blue.Exec(t.Context(), "ip", "neighbour", "show", addr)
	must(t, err)
	if !strings.Contains(neighbour, mac) {
		t.Errorf("on the other host %s is %q, not behind %s", addr, neighbour, mac)
	}
}

// Engines hand out addresses without asking each other; the second container with one address is told who has it.
func testTakenAddress(t *testing.T, c *Cluster) {
	const addr = "10.20.1.77"
	network(t, c.Hosts[:2], "app", 20)
	start(t, c.Hosts[0], "red", "app", "--ip", addr)
	eventually(t, "the other host knows the container", settleTimeout, func() error { return remotes(t, c.Hosts[1], 1) })
	_, err := c.Hosts[1].Run(t.Context(), "blue", "--network", "app", "--ip", addr)
	if err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("second container with %s: %v; want an error that names the address", addr, err)
	}
}

func testSeveralNetworks(t *testing.T, c *Cluster) {
	network(t, c.Hosts, "front", 21)
	network(t, c.Hosts, "back", 22)
	both, _ := start(t, c.Hosts[0], "both", "front")
	_, err := both.Host.Docker(t.Context(), "network", "connect", "back", both.Name)
	must(t, err)
	front, frontAt := start(t, c.Hosts[1], "front", "front")
	_, backAt := start(t, c.Hosts[2], "back", "back")

	reach(t, both, frontAt.IPAddress, backAt.IPAddress, frontAt.GlobalIPv6Address, backAt.GlobalIPv6Address)
	unreachable(t, front, backAt.IPAddress)
}

// Two tenants with the same subnet: a third host has the other one's container at an address that the first one uses too.
func testSameSubnet(t *testing.T, c *Cluster) {
	network(t, c.Hosts[:2], "one", 20, "-o", "vni=5001")
	network(t, c.Hosts[2:], "two", 20, "-o", "vni=5002")
	here, _ := start(t, c.Hosts[0], "here", "one")
	_, thereAt := start(t, c.Hosts[1], "there", "one", "--ip", "10.20.2.50")
	_, aloneAt := start(t, c.Hosts[2], "alone", "two")
	start(t, c.Hosts[2], "twin", "two", "--ip", "10.20.2.50")

	reach(t, here, thereAt.IPAddress)
	page, err := here.Get(t.Context(), thereAt.IPAddress, 80)
	must(t, err)
	if page != "there" {
		t.Errorf("%s is answered by %q of the other network", thereAt.IPAddress, page)
	}
	unreachable(t, here, aloneAt.IPAddress)
}

func testOptions(t *testing.T, c *Cluster) {
	const known = "known options: vni, network, com.docker.network.driver.mtu"
	for _, bad := range []struct{ option, complaint string }{
		{"vni=0", `option vni="0"`},
		{"vni=16777216", `option vni="16777216"`},
		{"vni=five", `option vni="five"`},
		{"network=-", `option network="-"`},
		{"com.docker.network.driver.mtu=10", `option com.docker.network.driver.mtu="10"`},
		{"encrypted=perhaps", `option encrypted="perhaps"`},
		{"trust=all", `option trust="all"`},
	} {
		_, err := c.Hosts[0].Docker(t.Context(), "network", "create", "-d", "overlane", "-o", bad.option, "bad")
		if err == nil {
			t.Errorf("-o %s was accepted", bad.option)
			continue
		}
		for _, want := range []string{bad.complaint, known} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("-o %s: %v; the error lacks %q", bad.option, err, want)
			}
		}
	}
}

// One VNI under two keys would merge two networks; the second host is told both.
func testSharedVNI(t *testing.T, c *Cluster) {
	network(t, c.Hosts[:1], "app", 20, "-o", "network=app")
	vni := status(t, c.Hosts[0]).Networks[0].VNI
	create := func() error {
		_, err := c.Hosts[1].Docker(t.Context(), "network", "create", "-d", "overlane", "-o", fmt.Sprintf("vni=%d", vni), "other")
		return err
	}
	key := fmt.Sprintf("vni=%d", vni)
	var err error
	eventually(t, "the other host refuses the VNI", settleTimeout, func() error {
		if err = create(); err != nil {
			return nil
		}
		_, removed := c.Hosts[1].Docker(t.Context(), "network", "rm", "other")
		return errors.Join(fmt.Errorf("a network with %s was created beside network=app, whose VNI it is", key), removed)
	})
	for _, want := range []string{"network=app", key} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: the error lacks %q", err, want)
		}
	}
}

func testMTU(t *testing.T, c *Cluster) {
	network(t, c.Hosts[:2], "app", 20, "-o", "com.docker.network.driver.mtu=1300")
	red, _ := start(t, c.Hosts[0], "red", "app")
	_, blueAt := start(t, c.Hosts[1], "blue", "app")
	reach(t, red, blueAt.IPAddress)
	const headers = 28 // of IPv4 and ICMP
	if _, err := red.Ping(t.Context(), blueAt.IPAddress, 1, "-M", "do", "-s", fmt.Sprint(1300-headers)); err != nil {
		t.Error(err)
	}
	if _, err := red.Ping(t.Context(), blueAt.IPAddress, 1, "-M", "do", "-s", fmt.Sprint(1301-headers)); err == nil {
		t.Error("a packet longer than the MTU got through")
	}
}
