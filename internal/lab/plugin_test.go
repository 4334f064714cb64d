//go:build lab

package lab

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// Docker calls a managed plugin's drivers by its name or alias and its tag.
const pluginDriver = "overlane:latest"

// metrics is where the plugin serves them once it is told to.
const metrics = "127.0.0.1:9750"

// Three hosts that got overlane by `docker plugin install` share a network, and what the plugin knows outlives new settings,
// upgrades and engines.
func TestPlugin(t *testing.T) {
	c := cluster(t)
	image := installPlugin(t, c, "OVERLANE_JOIN="+c.Hosts[0].Addr.String(), "OVERLANE_DOCKER_SOCKET=/proc/1/root/run/docker.sock")
	pluginsMeet(t, c)
	var containers []*Container
	var addrs []netip.Addr
	for _, h := range c.Hosts {
		_, err := h.Docker(t.Context(), "network", "create", "--driver", pluginDriver, "--ipam-driver", pluginDriver, "--subnet", "10.55.0.0/16", "app")
		must(t, err)
		container, at := start(t, h, fmt.Sprintf("first%d", h.Number), "app", "--restart", "always")
		containers, addrs = append(containers, container), append(addrs, at.IPAddress)
	}
	for _, container := range containers {
		reach(t, container, addrs...)
	}
	called(t, containers[0], "first2", addrs[1])

	h := c.Hosts[1]
	id := pluginNode(t, h)
	stays := func(t *testing.T) {
		t.Helper()
		if now := pluginNode(t, h); now != id {
			t.Errorf("the node was %s and is now %s", id, now)
		}
		must(t, containers[0].Reach(t.Context(), attachment(t, containers[1], "app").IPAddress))
	}
	f := begin(t, containers[0], addrs[1])
	t.Run("Kill", func(t *testing.T) {
		shell(t, h, "kill -9 $(pidof overlane)")
		f.short(t, "the plugin killed")
		stays(t)
	})
	t.Run("Set", func(t *testing.T) {
		shell(t, h, "docker plugin disable -f overlane; docker plugin set overlane OVERLANE_METRICS="+metrics+"; docker plugin enable overlane")
		f.gap(t, "the plugin disabled, set and enabled")
		stays(t)
		servesMetrics(t, h)
	})
	t.Run("Upgrade", func(t *testing.T) {
		shell(t, h, "docker plugin disable -f overlane; docker plugin upgrade --grant-all-permissions overlane "+image+"; docker plugin enable overlane")
		f.gap(t, "the plugin upgraded")
		stays(t)
		servesMetrics(t, h)
	})
	t.Run("Engine", func(t *testing.T) {
		shell(t, h, "pid=$(cat /run/docker.pid); kill $pid; "+ends+"$pid")
		eventually(t, "the engine is back with its container", startTimeout, func() error {
			_, err := containers[1].Exec(t.Context(), "true")
			return err
		})
		stays(t)
	})
	t.Run("Attach", func(t *testing.T) {
		shell(t, h, "nsenter -t $(pidof overlane) -m overlane attach app --name machine2")
		eventually(t, "the host finds a container", settleTimeout, func() error {
			_, err := h.Exec(t.Context(), "ping", "-q", "-c", "1", "-W", "1", "first1")
			return err
		})
		eventually(t, "a container finds the host", settleTimeout, func() error {
			_, err := containers[0].Exec(t.Context(), "ping", "-q", "-c", "1", "-W", "1", "machine2")
			return err
		})
		shell(t, h, "nsenter -t $(pidof overlane) -m overlane detach app; ! grep overlane /etc/hosts")
	})
	// Before its restart the engine knows the daemon by that name, and waits a quarter of a minute for it each time.
	t.Run("Name", func(t *testing.T) { testPluginName(t, h) })
	t.Run("Remove", func(t *testing.T) {
		shell(t, h, "docker rm -f first2; docker network rm app; docker plugin disable overlane; docker plugin rm overlane")
		if taps := shell(t, h, "ip tuntap show"); taps != "" {
			t.Errorf("the removed plugin leaves taps: %s", taps)
		}
	})
}

// installPlugin has the plugin take the daemons' place on all hosts until the end of the test, and gives its name in a registry.
func installPlugin(t *testing.T, c *Cluster, settings ...string) (image string) {
	t.Helper()
	image = registry.plugin(t, c)
	stop(t, c.Hosts...)
	putBack(t, func() {
		empty(t, c.Hosts)
		shells(t, c.Hosts, func(*Host) string { return "docker plugin ls -q | xargs -r docker plugin rm -f" })
	})
	settings = append(settings, "OVERLANE_TOKEN="+c.Token)
	shells(t, c.Hosts, func(*Host) string {
		return "docker plugin install --grant-all-permissions --alias overlane " + image + " " + strings.Join(settings, " ")
	})
	return image
}

// pluginsMeet waits until every host knows all others by its plugin.
func pluginsMeet(t *testing.T, c *Cluster) {
	t.Helper()
	for _, h := range c.Hosts {
		eventually(t, h.Name+" knows the others by its plugin", 2*time.Minute, func() error {
			s, err := pluginStatus(t, h)
			if alive := strings.Count(s, `"state": "alive"`); err == nil && alive != len(c.Hosts) {
				err = fmt.Errorf("%d members alive, not %d", alive, len(c.Hosts))
			}
			return err
		})
	}
}

// pluginStatus is what `overlane status -o json` says in the managed plugin.
func pluginStatus(t *testing.T, h *Host) (string, error) {
	t.Helper()
	return h.Exec(t.Context(), "sh", "-c", "nsenter -t $(pidof overlane) -m overlane status -o json")
}

// pluginNode waits for the plugin, and gives the identity it has among the others.
func pluginNode(t *testing.T, h *Host) (id string) {
	t.Helper()
	eventually(t, "the plugin answers", settleTimeout, func() error {
		text, err := pluginStatus(t, h)
		if err != nil {
			return err
		}
		var s struct{ Node struct{ ID string } }
		must(t, json.Unmarshal([]byte(text), &s))
		id = s.Node.ID
		return nil
	})
	return id
}

// Docker has no driver by the plugin's bare name, whatever the plugin does.
func testPluginName(t *testing.T, h *Host) {
	for _, drivers := range [][]string{
		{"--driver", "overlane"},
		{"--driver", pluginDriver, "--ipam-driver", "overlane"},
	} {
		_, err := h.Docker(t.Context(), append(append([]string{"network", "create"}, drivers...), "bare")...)
		if err == nil || !strings.Contains(err.Error(), "driver") {
			t.Errorf("%v: %v; docs/plugin.md says that Docker refuses it", drivers, err)
		}
	}
}

func servesMetrics(t *testing.T, h *Host) {
	t.Helper()
	_, err := h.Exec(t.Context(), "curl", "-sSf", "http://"+metrics+"/metrics")
	must(t, err)
}
