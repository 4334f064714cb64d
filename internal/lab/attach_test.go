//go:build lab

package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// attached is what `overlane attach` says.
type attached struct {
	Interface string         `json:"interface"`
	Addrs     []netip.Prefix `json:"addrs"`
	Lacks     string         `json:"lacks"`
}

func (a attached) addrs() (all []netip.Addr) {
	for _, p := range a.Addrs {
		all = append(all, p.Addr())
	}
	return all
}

func attach(t *testing.T, h *Host, args string) attached {
	t.Helper()
	var all []attached
	must(t, json.Unmarshal([]byte(shell(t, h, "overlane attach -o json "+args)), &all))
	if len(all) != 1 || all[0].Lacks != "" {
		t.Fatalf("%s is attached as %+v", h.Name, all)
	}
	return all[0]
}

// withoutEngine takes the engine from a host until the end of the test.
func withoutEngine(t *testing.T, h *Host) {
	t.Helper()
	putBack(t, func() {
		shell(t, h, "mv /usr/sbin/dockerd.away /usr/sbin/dockerd")
		ready(t, []*Host{h})
	})
	shell(t, h, "pid=$(cat /run/docker.pid); mv /usr/sbin/dockerd /usr/sbin/dockerd.away; kill $pid; "+ends+"$pid; rm -f /run/docker.sock")
}

// asService starts the daemon with the capabilities that the systemd unit gives it, where it can't write /etc.
const asService = `unshare --mount sh -ec '
mount --rbind /etc /etc && mount -o remount,ro,bind /etc && mount -o remount,ro,bind /etc/hosts
exec setpriv --bounding-set=-all,+net_admin,+net_raw,+sys_admin,+ipc_lock,+sys_nice,+sys_ptrace,+chown,+dac_override start-overlane'`

// daemonAnswers waits for the daemon of a host without an engine.
func daemonAnswers(t *testing.T, h *Host) {
	t.Helper()
	must(t, Wait(lasting(t), startTimeout, func(ctx context.Context) error {
		_, err := h.Exec(ctx, "overlane", "status")
		return err
	}))
}

// A machine without an engine is on a network: both sides reach each other by address and name, also after its daemon was killed. What is
// not on the network does not reach it through a host that is, and nothing stays when the hosts are off it.
func TestAttach(t *testing.T) {
	c := cluster(t)
	docker, plain := c.Hosts[0], c.Hosts[1]
	// Docker keeps the host's namespace mounted from its first container on the host's network on, and a swarm's: other tests have such ones.
	shell(t, plain, "docker run --rm --network host box true; touch /run/docker/netns/1-swarm; mount --bind /proc/self/ns/net /run/docker/netns/1-swarm")
	withoutEngine(t, plain)
	shell(t, plain, "kill -9 $(cat /run/overlane.pid); for m in $(awk '$2 ~ \"^/run/docker/\" { print $2 }' /proc/mounts); do umount $m; done; rm -rf /run/docker; "+asService)
	daemonAnswers(t, plain)
	shell(t, docker, "docker network create -d overlane --ipam-driver overlane --ipv6 --subnet 10.63.0.0/24 --subnet fd63::/64 app")
	web, webAt := start(t, docker, "web", "app", "--network-alias", "shop", "--cap-add", "NET_ADMIN")

	shell(t, plain, "sysctl -qw net.ipv6.conf.default.disable_ipv6=0")
	putBack(t, func() { shell(t, plain, "sysctl -qw net.ipv6.conf.default.disable_ipv6=1") })
	db := attach(t, plain, "10.63.0.0/24 --name db")
	if len(db.Addrs) != 2 {
		t.Fatalf("attached with %v, want addresses of IPv4 and IPv6", db.Addrs)
	}
	shell(t, plain, "echo a database >/tmp/index.html; busybox httpd -p 8063 -h /tmp")
	putBack(t, func() { shell(t, plain, "pkill -x busybox; rm /tmp/index.html") })
	meet := func() {
		t.Helper()
		reach(t, web, db.addrs()...)
		called(t, web, "db", db.addrs()[0])
		fetches(t, "web", func() (string, error) {
			return web.Exec(t.Context(), "curl", "-sS", "--max-time", "5", "http://db:8063/")
		}, "a database")
		for _, name := range []string{"web", "shop"} {
			fetches(t, "the machine", func() (string, error) {
				return plain.Exec(t.Context(), "curl", "-sS", "--max-time", "5", "http://"+name+"/")
			}, "web")
		}
		shell(t, plain, fmt.Sprintf("ping -q -c 1 -W 5 %s; ping -q -c 1 -W 5 %s", webAt.IPAddress, webAt.GlobalIPv6Address))
	}
	meet()
	shell(t, plain, "kill -9 $(cat /run/overlane.pid); "+asService)
	daemonAnswers(t, plain)
	meet()
	shell(t, plain, "kill -9 $(cat /run/overlane.pid); ip link del "+db.Interface+"; start-overlane") // as after a reboot
	daemonAnswers(t, plain)
	meet()

	// A container of another network, on a host that forwards and is attached.
	own := attach(t, docker, "app")
	outside, err := docker.Run(t.Context(), "outside", "--publish", "8064:80")
	must(t, err)
	outsideAt := attachment(t, outside, "bridge").IPAddress
	reach(t, web, own.addrs()...)
	shell(t, docker, "ping -q -c 1 -W 5 web; ping -q -c 1 -W 5 db")
	for _, addr := range append(slices.Concat(db.addrs()[:1], own.addrs()[:1]), webAt.IPAddress) {
		unreachable(t, outside, addr)
	}
	shell(t, docker, fmt.Sprintf("docker exec web ip route add %s via %s", outsideAt, own.addrs()[0]))
	unreachable(t, web, outsideAt)
	published := "curl -sS --max-time 2 http://%s:8064/"
	fetches(t, "the machine", func() (string, error) {
		return plain.Exec(t.Context(), "sh", "-c", fmt.Sprintf(published, docker.Addr))
	}, "outside")
	if page, err := plain.Exec(t.Context(), "sh", "-c", fmt.Sprintf(published, own.addrs()[0])); err == nil {
		t.Errorf("over the network a published port of a container that is not on it answers: %s", page)
	}
	for _, name := range []string{"web", "db"} {
		if out, err := outside.Exec(t.Context(), "nslookup", name); err == nil && strings.Contains(out, "10.63.") {
			t.Errorf("a container that is not on the network finds %s: %s", name, out)
		}
	}
	must(t, outside.Remove(t.Context()))

	for _, h := range []*Host{docker, plain} {
		shell(t, h, "overlane detach 10.63.0.0/24")
		if left := shell(t, h, "grep overlane /etc/hosts || :; ip -o addr | grep -E 'ol-|10[.]63[.]|fd63:' || :"); left != "" {
			t.Errorf("%s: left of the attachment: %s", h.Name, left)
		}
	}
	called(t, web, "db")
	dockerMakesIt(t, c.Hosts[2], web)
	everywhere(t, docker, plain)
	if s := status(t, plain); len(s.Networks)+len(s.Endpoints) > 0 {
		t.Errorf("left: %+v", s)
	}
}

// fetches demands a page, once the hosts have settled.
func fetches(t *testing.T, who string, fetch func() (string, error), want string) {
	t.Helper()
	eventually(t, who+" gets "+want, settleTimeout, func() error {
		page, err := fetch()
		if err == nil && strings.TrimSpace(page) != want {
			err = fmt.Errorf("it is %q", page)
		}
		return err
	})
}

// dockerMakesIt attaches a host to a network, which Docker makes there later, and removes again.
func dockerMakesIt(t *testing.T, h *Host, web *Container) {
	t.Helper()
	own := attach(t, h, "subnet=10.63.0.0/24 --name early")
	shell(t, h, "docker network create -d overlane --ipam-driver overlane --ipv6 --subnet 10.63.0.0/24 --subnet fd63::/64 app")
	late, _ := start(t, h, "late", "app")
	for _, from := range []*Container{web, late} {
		reach(t, from, own.addrs()...)
		called(t, from, "early", own.addrs()[0])
	}
	must(t, late.Remove(t.Context()))
	shell(t, h, "docker network rm app")
	reach(t, web, own.addrs()...)
	shell(t, h, "overlane detach subnet=10.63.0.0/24")
}

// everywhere attaches a host without an engine to a network by the name that it has on all hosts.
func everywhere(t *testing.T, docker, plain *Host) {
	t.Helper()
	shell(t, docker, "overlane network create --only $(hostname) --subnet 10.64.0.0/24 all")
	in, _ := start(t, docker, "in", "all")
	eventually(t, "the definition is known", settleTimeout, func() error {
		_, err := plain.Exec(t.Context(), "overlane", "attach", "all", "--name", "machine")
		return err
	})
	own := attach(t, plain, "all")
	reach(t, in, own.addrs()...)
	called(t, in, "machine", own.addrs()[0])
	shell(t, plain, "overlane detach all")
	must(t, in.Remove(t.Context()))
	shell(t, docker, "overlane network rm all")
}
