//go:build lab

package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// A swarm of three hosts, which know each other by the swarm alone: the tasks of a service on an overlane network reach each
// other and are found by name; those of a host that is drained move, and are reached again. A swarm takes drivers from
// managed plugins alone.
func TestSwarm(t *testing.T) {
	c := cluster(t)
	installPlugin(t, c, "OVERLANE_DOCKER_SOCKET=/proc/1/root/run/docker.sock")
	// An engine that has known a driver which is gone tells that one of the swarm's new nodes first, and gives up after 15 s each.
	shells(t, c.Hosts, func(*Host) string { return restartEngine("TERM") })
	manager := c.Hosts[0]
	putBack(t, func() {
		shells(t, c.Hosts, func(*Host) string { return "docker swarm leave --force; docker network rm app-config" })
	})
	shell(t, manager, "docker swarm init --advertise-addr "+manager.Addr.String())
	token := strings.TrimSpace(shell(t, manager, "docker swarm join-token -q worker"))
	for _, h := range c.Hosts[1:] {
		shell(t, h, fmt.Sprintf("docker swarm join --token %s %s:2377", token, manager.Addr))
	}
	pluginsMeet(t, c)
	t.Run("Local", func(t *testing.T) {
		shells(t, c.Hosts, func(*Host) string {
			return "docker network create --config-only --ipam-driver " + pluginDriver + " --subnet 10.40.0.0/24 app-config"
		})
		shell(t, manager, "docker network create -d "+pluginDriver+" --scope swarm --config-from app-config app")
		testService(t, c, "app", func(tasks int) {
			shell(t, manager, fmt.Sprintf("docker service create --detach --name web --replicas %d --network app --endpoint-mode dnsrr box", tasks))
		}, "docker service rm web", "web", "tasks.web")
	})
	t.Run("Global", func(t *testing.T) {
		for _, h := range c.Hosts { // one after the other, so that each comes back to others
			shell(t, h, "docker plugin disable -f overlane; docker plugin set overlane OVERLANE_SCOPE=global; docker plugin enable overlane")
		}
		pluginsMeet(t, c)
		shell(t, manager, "docker network create -d "+pluginDriver+" --subnet 10.41.0.0/24 everywhere")
		testService(t, c, "everywhere", func(tasks int) {
			shell(t, manager, fmt.Sprintf(`printf '{"version":"3.8","services":{"web":{"image":"box","deploy":{"replicas":%d},"networks":["all"]}},
				"networks":{"all":{"external":true,"name":"everywhere"}}}' >/tmp/stack.json; docker stack deploy -c /tmp/stack.json shop`, tasks))
		}, "docker stack rm shop", "web", "shop_web", "tasks.shop_web")
	})
}

// testService runs a service on a network, which is called so, drains a host, and removes the service.
func testService(t *testing.T, c *Cluster, network string, create func(tasks int), remove string, called ...string) {
	t.Helper()
	const tasks = 6
	manager, drained := c.Hosts[0], c.Hosts[2]
	create(tasks)
	running := serviceTasks(t, c.Hosts, network, tasks)
	allReach(t, running)
	names(t, running, called)

	node := strings.TrimSpace(shell(t, drained, "docker info --format '{{.Swarm.NodeID}}'"))
	shell(t, manager, "docker node update --availability drain "+node)
	moved := serviceTasks(t, c.Hosts[:2], network, tasks)
	allReach(t, moved)
	names(t, moved, called)
	shell(t, manager, "docker node update --availability active "+node+"; "+remove)
	serviceTasks(t, c.Hosts, network, 0)
	eventually(t, "the network is removed", settleTimeout, func() error {
		_, err := manager.Docker(t.Context(), "network", "rm", network)
		return err
	})
}

// serviceTasks waits until so many tasks run on the hosts, and none elsewhere.
func serviceTasks(t *testing.T, hosts []*Host, network string, want int) map[*Container]Attachment {
	t.Helper()
	var running map[*Container]Attachment
	eventually(t, fmt.Sprint(want, " tasks run"), time.Minute, func() error {
		running = map[*Container]Attachment{}
		for _, h := range hosts {
			out, err := h.Docker(t.Context(), "ps", "--filter", "label=com.docker.swarm.task", "--format", "{{.Names}}")
			if err != nil {
				return err
			}
			for _, name := range strings.Fields(out) {
				task := &Container{Host: h, Name: name}
				at, err := task.Attachment(t.Context(), network)
				if err != nil {
					return err
				}
				running[task] = at
			}
		}
		if len(running) != want {
			return fmt.Errorf("%d run", len(running))
		}
		return nil
	})
	return running
}

func allReach(t *testing.T, tasks map[*Container]Attachment) {
	t.Helper()
	for task := range tasks {
		reachAll(t, task, tasks, settleTimeout)
	}
}

// names demands that each task finds all by each of the service's names.
func names(t *testing.T, tasks map[*Container]Attachment, called []string) {
	t.Helper()
	var all []netip.Addr
	for _, at := range tasks {
		all = append(all, at.IPAddress)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	for task := range tasks {
		eventually(t, task.Name+" finds the others by name", settleTimeout, func() error {
			for _, name := range called {
				if found := addressesOf(t, task, name); !slices.Equal(found, all) {
					return fmt.Errorf("%s is %v, want %v", name, found, all)
				}
			}
			return nil
		})
	}
}
