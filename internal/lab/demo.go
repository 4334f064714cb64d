package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

const (
	demoNetwork   = "app"
	publishedPort = 8080
	outsidePort   = 80
)

// Demo shows on a cluster what overlane is for: one dual-stack network on all hosts, many containers on each, and on the
// first two hosts all the ways by which containers and the world outside reach each other.
func Demo(ctx context.Context, c *Cluster, each int, out io.Writer) error {
	d := &demo{out: out, all: c.Hosts, hosts: c.Hosts[:2], each: each}
	for _, step := range []func(context.Context) error{
		d.createNetwork, d.startMany, d.startContainers, d.names, d.ping, d.http, d.egress, d.publishedPort, d.throughput, d.status,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

type demo struct {
	out        io.Writer
	all        []*Host
	hosts      []*Host // the first two
	each       int     // containers started at once on each host
	containers []*Container
	addrs      [][2]netip.Addr // of each container, IPv4 and IPv6
}

func (d *demo) title(format string, args ...any) {
	fmt.Fprintf(d.out, "\n=== "+format+"\n", args...)
}

func (d *demo) result(format string, args ...any) {
	fmt.Fprintf(d.out, "    "+format+"\n", args...)
}

func (d *demo) createNetwork(ctx context.Context) error {
	d.title("one network, made once")
	args := []string{"overlane", "network", "create", "--ipv6", "--subnet", "10.20.0.0/16", "--subnet", "fd00:20::/64", demoNetwork}
	d.result("%s, on %s:", strings.Join(args, " "), d.hosts[0].Name)
	said, err := d.hosts[0].Exec(ctx, args...)
	if err != nil {
		return err
	}
	d.result("%s", strings.TrimSpace(said))
	for _, h := range d.all {
		if _, err := h.Docker(ctx, "network", "inspect", demoNetwork); err != nil {
			return err
		}
	}
	return nil
}

// startMany shows that hosts hand out addresses at the same time, and none of them twice.
func (d *demo) startMany(ctx context.Context) error {
	d.title("%d containers on each of %d hosts, started at once", d.each, len(d.all))
	containers, addrs, err := StartContainers(ctx, d.all, demoNetwork, d.each)
	if err != nil {
		return err
	}
	holder := map[netip.Addr]*Container{}
	for i, addr := range addrs {
		if other := holder[addr]; other != nil {
			return fmt.Errorf("%s on %s and %s on %s both have %s", other.Name, other.Host.Name, containers[i].Name, containers[i].Host.Name, addr)
		}
		holder[addr] = containers[i]
	}
	if err := ReachAll(ctx, containers, addrs); err != nil {
		return err
	}
	d.result("%d different addresses; each of the containers reaches all of them", len(holder))
	for _, c := range containers {
		if err := c.Remove(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) startContainers(ctx context.Context) error {
	d.title("one container on each")
	for i, name := range []string{"red", "blue"} {
		h := d.hosts[i]
		container, err := h.Run(ctx, name, "--network", demoNetwork, "--publish", fmt.Sprintf("%d:80", publishedPort))
		if err != nil {
			return err
		}
		attachment, err := container.Attachment(ctx, demoNetwork)
		if err != nil {
			return err
		}
		d.containers = append(d.containers, container)
		d.addrs = append(d.addrs, [2]netip.Addr{attachment.IPAddress, attachment.GlobalIPv6Address})
		d.result("%s on %s: %s, %s", name, h.Name, attachment.IPAddress, attachment.GlobalIPv6Address)
	}
	return nil
}

// names shows that the containers find each other by name, over hosts.
func (d *demo) names(ctx context.Context) error {
	d.title("by name")
	for i, from := range d.containers {
		to := d.containers[1-i]
		err := Wait(ctx, settleTimeout, func(ctx context.Context) error {
			page, err := from.Exec(ctx, "curl", "-sS", "--fail", "--max-time", "5", "http://"+to.Name+"/")
			if err == nil && page != to.Name {
				err = fmt.Errorf("HTTP from %s to %s: answered by %q", from.Name, to.Name, page)
			}
			return err
		})
		if err != nil {
			return err
		}
		d.result("%s on %s → http://%s/ answered", from.Name, from.Host.Name, to.Name)
	}
	found, err := d.hosts[0].Exec(ctx, "overlane", "resolve", d.containers[1].Name)
	if err != nil {
		return err
	}
	d.result("overlane resolve %s on %s:", d.containers[1].Name, d.hosts[0].Name)
	fmt.Fprintln(d.out, found)
	return nil
}

// bothWays calls check for each container and each address of the other one.
func (d *demo) bothWays(check func(from, to *Container, addr netip.Addr) error) error {
	for i, from := range d.containers {
		for _, addr := range d.addrs[1-i] {
			if err := check(from, d.containers[1-i], addr); err != nil {
				return err
			}
		}
	}
	return nil
}

func family(addr netip.Addr) string {
	if addr.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

func (d *demo) ping(ctx context.Context) error {
	const count = 10
	d.title("ping")
	return d.bothWays(func(from, to *Container, addr netip.Addr) error {
		if err := from.Reach(ctx, addr); err != nil {
			return err
		}
		average, err := from.Ping(ctx, addr, count)
		if err != nil {
			return err
		}
		d.result("%s → %s over %s: %d/%d answered, %.3f ms on average", from.Name, to.Name, family(addr), count, count, average)
		return nil
	})
}

func (d *demo) http(ctx context.Context) error {
	d.title("HTTP")
	return d.bothWays(func(from, to *Container, addr netip.Addr) error {
		page, err := from.Get(ctx, addr, 80)
		if err != nil {
			return err
		}
		if page != to.Name {
			return fmt.Errorf("HTTP from %s to %s at %s: answered by %q", from.Name, to.Name, addr, page)
		}
		d.result("%s → %s over %s: answered", from.Name, to.Name, family(addr))
		return nil
	})
}

// egress goes from each container to a server that is not on the overlay: it shares the network of the other host.
func (d *demo) egress(ctx context.Context) error {
	d.title("egress: from a container to a server outside of the overlay")
	for i, from := range d.containers {
		outside := d.hosts[1-i]
		server, err := outside.Run(ctx, "outside", "--network", "host")
		if err != nil {
			return err
		}
		err = Wait(ctx, settleTimeout, func(ctx context.Context) error {
			_, err := from.Get(ctx, outside.Addr, outsidePort)
			return err
		})
		if err != nil {
			return err
		}
		d.result("%s → %s (%s) answered", from.Name, outside.Addr, outside.Name)
		if err := server.Remove(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) publishedPort(ctx context.Context) error {
	d.title("published port: from outside to a container")
	client := http.Client{Timeout: 5 * time.Second}
	for i, h := range d.hosts {
		url := "http://" + net.JoinHostPort(h.Addr.String(), fmt.Sprint(publishedPort)) + "/"
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return fmt.Errorf("published port: %w", err)
		}
		page, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			return fmt.Errorf("published port: %s: %w", url, err)
		}
		if got, want := strings.TrimSpace(string(page)), d.containers[i].Name; got != want {
			return fmt.Errorf("published port: %s: answered by %q, not by %s", url, got, want)
		}
		d.result("%s answered by %s", url, d.containers[i].Name)
	}
	return nil
}

func (d *demo) throughput(ctx context.Context) error {
	d.title("iperf3, one TCP stream")
	return d.bothWays(func(from, to *Container, addr netip.Addr) error {
		rate, err := from.Iperf(ctx, addr, 2*time.Second)
		if err != nil {
			return err
		}
		d.result("%s → %s over %s: %.2f Gbit/s", from.Name, to.Name, family(addr), rate/1e9)
		return nil
	})
}

func (d *demo) status(ctx context.Context) error {
	for _, h := range d.hosts {
		d.title("overlane status on %s", h.Name)
		status, err := h.Exec(ctx, "overlane", "status")
		if err != nil {
			return err
		}
		fmt.Fprintln(d.out, status)
	}
	d.title("overlane ipam on %s", d.hosts[0].Name)
	addresses, err := d.hosts[0].Exec(ctx, "overlane", "ipam")
	if err != nil {
		return err
	}
	fmt.Fprintln(d.out, addresses)
	return nil
}
