//go:build lab

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// mistake is what a user types after `docker`, and parts of what the user must read then.
type mistake struct {
	typed string
	told  []string
}

const (
	creates = "network create oops -d overlane "
	pools   = creates + "--ipam-driver overlane "
	known   = "known options: vni, network, com.docker.network.driver.mtu"
)

// Whatever a user gets wrong, Docker shows what it was and the way out, and nothing is left of it.
func TestUserErrors(t *testing.T) {
	c := cluster(t)
	here := c.Hosts[0]
	f := newFixtures(t, c)
	for _, table := range [][]mistake{badOptions, badPools, f.badNetworks(), f.badAddresses()} {
		commit(t, here, table)
	}
	t.Run("Forgotten", func(t *testing.T) { testForgotten(t, here) })
}

// commit types mistakes on a host, and demands that all stands as before then.
func commit(t *testing.T, h *Host, mistakes []mistake) {
	t.Helper()
	before := standing(t, h)
	for _, m := range mistakes {
		t.Run(m.typed, func(t *testing.T) { m.commit(t, h) })
	}
	eventually(t, "nothing is left", settleTimeout, func() error {
		if after := standing(t, h); after != before {
			return fmt.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		return nil
	})
}

func (m mistake) commit(t *testing.T, h *Host) {
	args := strings.Fields(m.typed)
	if args[0] == "run" {
		args = append(args, "box")
		defer shell(t, h, "docker rm -f oops || :") // that of a `docker run` which failed is the user's to remove
	}
	_, err := h.Docker(t.Context(), args...)
	var failed *CommandError
	if exit := new(exec.ExitError); !errors.As(err, &failed) || !errors.As(err, &exit) {
		shell(t, h, "docker network rm oops >/dev/null 2>&1 || :")
		t.Fatalf("no exit status but 0 (%v); want an error with %q", err, m.told)
	}
	for _, part := range m.told {
		if !strings.Contains(failed.Stderr, part) {
			t.Errorf("the error lacks %q: %s", part, failed.Stderr)
		}
	}
}

// standing is what a host has of networks, endpoints, pools and addresses, by Docker's and by overlane's word.
func standing(t *testing.T, h *Host) string {
	t.Helper()
	var all struct {
		hostAddresses
		Networks, Endpoints []struct{ ID string }
		Docker              []string
	}
	must(t, json.Unmarshal([]byte(shell(t, h, `{ overlane status -o json; overlane ipam -o json; docker network ls --format '{{json .Name}}' | jq -s '{Docker: sort}'; } | jq -s add`)), &all))
	return fmt.Sprint(all.Docker, all.Networks, all.Endpoints, all.ready(), all.Addresses)
}

// fixtures is where the mistakes are made: on the first host, beside another.
type fixtures struct {
	other           string // the other host's name
	vtep            string // its address: by a --static file it has a container in network wired
	flat, elsewhere uint32 // VNIs: of network flat, which both have, and of east, which the other has alone
}

func newFixtures(t *testing.T, c *Cluster) fixtures {
	t.Helper()
	here, other := c.Hosts[0], c.Hosts[1]
	f := fixtures{other: strings.TrimSpace(shell(t, other, "hostname")), vtep: other.Addr.String()}
	restartWith(t, c.Hosts[:1], func(*Host) string {
		return "echo '13 02:42:00:00:00:09 10.26.0.9 " + f.vtep + "' >/etc/static; export OVERLANE_STATIC=/etc/static"
	})
	acquainted(t, c)
	pooled(t, c.Hosts[:2], "app", "10.27.0.0/28", "--gateway", "10.27.0.5", "--aux-address", "x=10.27.0.9")
	pooled(t, c.Hosts[:2], "tiny", "10.24.0.0/30")
	pooled(t, c.Hosts[:1], "narrow", "10.25.0.0/24", "--ip-range", "10.25.0.4/32")
	pooled(t, c.Hosts[1:2], "east", "10.23.0.0/24", "-o", "network=east")
	pooled(t, c.Hosts[1:2], "named", "10.22.0.0/24", "--ipam-opt", "network=named")
	shells(t, c.Hosts[:2], func(*Host) string {
		return "docker network create -d overlane -o network=flat --subnet 10.21.0.0/24 flat"
	})
	shell(t, here, "docker network create -d overlane -o vni=12 --ipam-driver null bare; docker network create -d overlane -o vni=13 --subnet 10.26.0.0/24 wired")

	startFixtures(t, here, other)
	for _, n := range status(t, other).Networks {
		switch n.Key {
		case "network=flat":
			f.flat = n.VNI
		case "network=east":
			f.elsewhere = n.VNI
		}
	}
	return f
}

func startFixtures(t *testing.T, here, other *Host) {
	t.Helper()
	_, err := here.Run(t.Context(), "plain")
	must(t, err)
	start(t, here, "red", "app", "--ip", "10.27.0.2", "--mac-address", "02:42:00:00:00:02")
	start(t, here, "only", "narrow")
	start(t, other, "blue", "app", "--ip", "10.27.0.3", "--mac-address", "02:42:00:00:00:03")
	start(t, other, "full", "tiny")
	start(t, other, "eastern", "east", "--ip", "10.23.0.4")
	start(t, other, "there", "flat", "--ip", "10.21.0.7")
	const static = 1
	eventually(t, "the other host's containers are known", settleTimeout, func() error { return remotes(t, here, 3+static) })
}

var badOptions = []mistake{
	{creates + "-o vni=0", []string{`option vni="0"`, "from 1 to 16777215", known}},
	{creates + "-o vni=16777216", []string{`option vni="16777216"`, "from 1 to 16777215", known}},
	{creates + "-o vni=five", []string{`option vni="five"`, "from 1 to 16777215", known}},
	{creates + "-o network=-", []string{`option network="-"`, "1 to 128 letters", known}},
	{creates + "-o network=", []string{`option network=""`, "1 to 128 letters", known}},
	{creates + "-o network=app -o vni=4", []string{`option vni="4"`, `together with network="app"`, known}},
	{creates + "-o encrypted=perhaps", []string{`option encrypted="perhaps"`, "want true", known}},
	{creates + "-o com.docker.network.bridge.name=br0", []string{`option com.docker.network.bridge.name="br0"`, "unknown option", known}},
	{creates + "-o com.docker.network.driver.mtu=big", []string{`option com.docker.network.driver.mtu="big"`, "from 68 to 65456", known}},
	{creates + "-o com.docker.network.driver.mtu=10", []string{`option com.docker.network.driver.mtu="10"`, "from 68 to 65456", known}},
	{creates + "-o com.docker.network.driver.mtu=9000", []string{`option com.docker.network.driver.mtu="9000"`, "at most 1450", known}},
	{creates + "-o com.docker.network.driver.mtu=1000 --ipv6 --subnet 10.37.0.0/24 --subnet fd00:30::/64", []string{`option com.docker.network.driver.mtu="1000"`, "IPv6 needs at least 1280", known}},
	{pools + "--subnet 10.37.0.0/24 --ipam-opt color=red", []string{`ipam-opt color="red"`, "unknown option", "known options: network, vni"}},
	{pools + "--subnet 10.37.0.0/24 --ipam-opt vni=0", []string{`ipam-opt vni="0"`, "from 1 to 16777215", "known options: network, vni"}},
	{pools + "--subnet 10.37.0.0/24 --ipam-opt network=-", []string{`ipam-opt network="-"`, "1 to 128 letters", "known options: network, vni"}},
	{pools + "--subnet 10.37.0.0/24 --ipam-opt com.docker.network.driver.mtu=1400", []string{`ipam-opt com.docker.network.driver.mtu="1400"`, "unknown option", "known options: network, vni"}},
	{pools + "--subnet 10.37.0.0/24 --ipam-opt network=x -o network=y", []string{"network=y by -o", "network=x by --ipam-opt", "give the same to both, or leave one out"}},
}

// Those that Docker finds itself, in words of its own, are here for the user's sake: the driver need not be asked. Newer engines find more.
var badPools = []mistake{
	{creates + "--ipam-driver null", []string{"no subnet", "--subnet", "-o vni=NUMBER", "-o network=NAME"}},
	{pools + "--subnet 10.37.0.0", []string{"10.37.0.0"}},
	{pools + "--subnet 10.37.0.1/24", []string{"subnet 10.37.0.1/24", "10.37.0.0/24"}},
	{pools + "--subnet fd00:30::1/64 --ipv6", []string{"subnet fd00:30::1/64", "fd00:30::/64"}},
	{pools + "--subnet 10.37.0.0/31", []string{"subnet 10.37.0.0/31", "too small", "at most 30 bits"}},
	{pools + "--subnet 127.0.0.0/8", []string{"subnet 127.0.0.0/8", "give one such as 10.20.0.0/16"}},
	{pools + "--subnet 0.0.0.0/0", []string{"subnet 0.0.0.0/0", "give one such as 10.20.0.0/16"}},
	{pools + "--ip-range 10.37.0.0/24", []string{"ip-range", "subnet"}},
	{pools + "--subnet 10.37.0.0/24 --ip-range 10.31.0.0/25", []string{"10.31.0.0/25", "subnet"}},
	{pools + "--subnet 10.37.0.0/24 --ip-range 10.37.0.1/25", []string{"ip-range 10.37.0.1/25", "10.37.0.0/25"}},
	{pools + "--subnet 10.37.0.0/24 --ip-range 10.37.0.0/16", []string{"ip-range 10.37.0.0/16", "subnet 10.37.0.0/24"}},
	{pools + "--subnet 10.37.0.0/24 --ip-range 10.37.0.0/32", []string{"ip-range 10.37.0.0/32", "no address of subnet 10.37.0.0/24", "give a larger one"}},
	{pools + "--subnet 10.37.0.0/24 --gateway 10.31.0.1", []string{"gateway 10.31.0.1", "subnet"}},
	{pools + "--subnet 10.37.0.0/24 --gateway 10.37.0.255", []string{"gateway: address 10.37.0.255", "subnet 10.37.0.0/24", "give one from 10.37.0.1 to 10.37.0.254"}},
	{pools + "--subnet 10.37.0.0/24 --aux-address a=10.31.0.2", []string{"aux-address 10.31.0.2", "subnet"}},
	{pools + "--subnet 10.37.0.0/24 --aux-address a=10.37.0.0", []string{"aux-address: address 10.37.0.0", "subnet 10.37.0.0/24", "give one from 10.37.0.1 to 10.37.0.254"}},
	{pools + "--subnet 10.37.0.0/24 --gateway 10.37.0.9 --aux-address a=10.37.0.9", []string{"aux-address 10.37.0.9", "the network's gateway", "give another"}},
}

// badNetworks are those that collide with others, of this host and of the other.
func (f fixtures) badNetworks() []mistake {
	return []mistake{
		{pools + "--subnet 10.27.0.0/28", []string{"already on this host with key subnet=10.27.0.0/28", "choose another --subnet", "-o vni=NUMBER or -o network=NAME"}},
		{pools + "--subnet 10.24.0.0/30", []string{"already on this host with key subnet=10.24.0.0/30", "choose another --subnet", "-o vni=NUMBER or -o network=NAME"}},
		{pools + "--subnet 10.27.0.0/24", []string{"subnet 10.27.0.0/24", "overlaps with subnet 10.27.0.0/28", "give another --subnet"}},
		{pools + "--subnet 10.27.0.0/28 --ip-range 10.27.0.0/29", []string{"ip-range 10.27.0.0/29", "subnet 10.27.0.0/28 already, with ip-range none", "give the same, or remove that network first"}},
		{pools + "--subnet 10.27.0.0/28 --gateway 10.27.0.6", []string{"gateway 10.27.0.6", "has gateway 10.27.0.5", "give --gateway 10.27.0.5, or none"}},
		{pools + "--subnet 10.27.0.0/28 --aux-address a=10.27.0.3", []string{"address 10.27.0.3", f.other, "another"}},
		{creates + "-o network=flat --subnet 10.37.0.0/24", []string{"already on this host with key network=flat", "choose another -o network"}},
		{creates + fmt.Sprintf("-o vni=%d --subnet 10.37.0.0/24", f.flat), []string{fmt.Sprintf("VNI %d", f.flat), "network=flat", "choose another -o vni"}},
		{creates + fmt.Sprintf("-o vni=%d --subnet 10.37.0.0/24", f.elsewhere), []string{fmt.Sprintf("VNI %d", f.elsewhere), f.other, "network=east", "use another VNI, or the same key on all hosts"}},
		{pools + "--subnet 10.23.0.0/24 --gateway 10.23.0.9", []string{"gateway 10.23.0.9", "has gateway 10.23.0.1 on its other hosts", "give --gateway 10.23.0.1, or none"}},
		{pools + "--subnet 10.23.0.0/24 --gateway 10.23.0.1 --aux-address a=10.23.0.4", []string{"address 10.23.0.4", f.other, "another"}},
		{pools + "--subnet 10.37.0.0/24 --ipam-opt network=named", []string{"subnet 10.37.0.0/24", "network=named has 10.22.0.0/24 on host " + f.other, "give --subnet 10.22.0.0/24"}},
		{"network rm app", []string{"app", "has active endpoints"}},
	}
}

// badAddresses are those of containers that are to be started, or connected while they run.
func (f fixtures) badAddresses() []mistake {
	all := []mistake{
		{"run -d --name oops --network app --mac-address 02:42:00:00:00:02", []string{"MAC address 02:42:00:00:00:02", "on this host has it", "give another --mac-address"}},
		{"run -d --name oops --network app --mac-address 02:42:00:00:00:03", []string{"MAC address 02:42:00:00:00:03", "host " + f.other + " has it", "give another --mac-address"}},
		{"run -d --name oops --network app --mac-address 01:00:00:00:00:07", []string{"MAC address 01:00:00:00:00:07", "unicast --mac-address", "even first byte"}},
		{"run -d --name oops --network wired --mac-address 02:42:00:00:00:09", []string{"MAC address 02:42:00:00:00:09", "vni=13", "--static file VTEP " + f.vtep, "give another --mac-address"}},
		{"run -d --name oops --network app --mac-address 02:42", []string{"02:42", "mac address"}},
	}
	for _, way := range []string{"run -d --name oops %s --network %s", "network connect %s %s plain"} {
		for _, m := range []struct {
			option, network string
			told            []string
		}{
			{"--ip 10.21.0.2", "app", []string{"10.21.0.2", "subnet"}},
			{"--ip 10.27.0.0", "app", []string{"address 10.27.0.0", "subnet 10.27.0.0/28", "give one from 10.27.0.1 to 10.27.0.14"}},
			{"--ip 10.27.0.15", "app", []string{"address 10.27.0.15", "subnet 10.27.0.0/28", "give one from 10.27.0.1 to 10.27.0.14"}},
			{"--ip 10.27.0.5", "app", []string{"address 10.27.0.5", "the network's gateway", "choose another --ip"}},
			{"--ip 10.27.0.9", "app", []string{"address 10.27.0.9", "reserved address (--aux-address)", "choose another --ip"}},
			{"--ip 10.27.0.2", "app", []string{"address 10.27.0.2", "in use on this host", "choose another --ip, or remove the container"}},
			{"--ip 10.27.0.3", "app", []string{"address 10.27.0.3", f.other, "choose another --ip, or remove the container"}},
			{"--ip6 fd00:20::5", "app", []string{"subnet"}},
			{"--ip 10.21.0.7", "flat", []string{"address 10.21.0.7", "network=flat", "host " + f.other + " has it", "--ipam-driver overlane", "--ip-range", "--ip"}},
			{"--ip 10.26.0.9", "wired", []string{"address 10.26.0.9", "vni=13", "--static file VTEP " + f.vtep, "choose another with --ip", "--aux-address"}},
			{"", "tiny", []string{"subnet 10.24.0.0/30 has no free address", "host " + f.other + " 1, all in use", "remove containers", "larger subnet"}},
			{"", "narrow", []string{"ip-range 10.25.0.4/32 of subnet 10.25.0.0/24 has no free address", "this host 1, all in use", "remove containers"}},
			{"", "bare", []string{"has no IP address", "an --ipam-driver that gives addresses, such as overlane"}},
		} {
			all = append(all, mistake{fmt.Sprintf(way, m.option, m.network), m.told})
		}
	}
	return all
}

// testForgotten has the daemon lose what it has on disk: Docker's networks are not known to it any more.
func testForgotten(t *testing.T, h *Host) {
	shell(t, h, "docker rm -f red only plain; "+stopDaemon+"; rm -r /var/lib/overlane; start-overlane")
	ready(t, []*Host{h})
	commit(t, h, []mistake{
		{"run -d --name oops --network flat", []string{"network ", "not known to overlane on this host", "remove it and create it again"}},
		{"run -d --name oops --network app", []string{"subnet=10.27.0.0/28", "not known to overlane on this host", "remove the network and create it again"}},
	})
}
