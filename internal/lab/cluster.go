// Package lab runs several Docker hosts on one machine, for tests, the demo and benchmarks. Each host is a container with a
// Docker engine and overlane of its own (contrib/compose), and a bridge network is the wire between them.
package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/overlane/overlane/contrib/compose"
	"github.com/overlane/overlane/discovery"
)

// startTimeout bounds the start of all hosts of a cluster.
const startTimeout = 2 * time.Minute

// Options of a cluster.
type Options struct {
	Name     string // the Compose project, which the names of all its containers and networks begin with
	Hosts    int
	Underlay string // what carries VXLAN, as contrib/compose/start-overlane knows it; empty: the kernel's sockets, and a tap for super-frames
}

// Cluster is some Docker hosts with a wire between them.
type Cluster struct {
	Hosts []*Host
	Token string // of overlane on all of them

	opts     Options
	platform string // of the hosts that Compose starts next
}

// Up starts a cluster and waits until each of its hosts has an engine, overlane and the image `box`. One of the same name
// that an earlier run left behind is taken down first. Of one that does not start it gives the hosts that there are.
func Up(ctx context.Context, opts Options) (*Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	c := &Cluster{opts: opts, Token: discovery.NewToken().Text()}
	if err := c.Down(ctx); err != nil {
		return c, err
	}
	if err := c.start(ctx); err != nil {
		return c, err
	}
	if err := c.findHosts(ctx); err != nil {
		return c, err
	}
	for _, h := range c.Hosts {
		if err := Wait(ctx, startTimeout, h.ready); err != nil {
			return c, fmt.Errorf("host %s does not start: %w\n%s", h.Name, err, h.Log(context.WithoutCancel(ctx)))
		}
	}
	return c, nil
}

// start starts the hosts: at once, or where they are of several platforms each by itself, with the image of its own.
func (c *Cluster) start(ctx context.Context) error {
	if len(platforms) == 1 {
		return c.scale(ctx, platforms[0], c.opts.Hosts)
	}
	for i := range c.opts.Hosts {
		if err := c.scale(ctx, platforms[i%len(platforms)], i+1); err != nil {
			return err
		}
	}
	return nil
}

// scale has Compose start so many hosts; those that run already stay what they are.
func (c *Cluster) scale(ctx context.Context, platform string, hosts int) error {
	c.platform = platform
	_, err := c.compose(ctx, "up", "-d", "--no-recreate", "--scale", "host="+strconv.Itoa(hosts))
	return err
}

// Down removes the hosts of the cluster with all they hold, and its wire. Nobody is left to say goodbye to, so it kills.
func (c *Cluster) Down(ctx context.Context) error {
	_, err := c.compose(ctx, "down", "--volumes", "--remove-orphans", "--timeout", "0")
	return err
}

// Down removes the cluster of that name.
func Down(ctx context.Context, name string) error {
	return (&Cluster{opts: Options{Name: name}}).Down(ctx)
}

// compose runs Compose on the cluster's file.
func (c *Cluster) compose(ctx context.Context, args ...string) (string, error) {
	cmd := composeCommand(ctx, append([]string{"-p", c.opts.Name, "-f", "-"}, args...)...)
	cmd.Stdin = strings.NewReader(compose.Cluster)
	cmd.Env = append(os.Environ(), "WIRE_SUBNET6="+c.wireSubnet6(), "UNDERLAY="+c.opts.Underlay, "OVERLANE_TOKEN="+c.Token, "HOST_PLATFORM="+c.platform)
	return run(cmd)
}

// composeCommand is Compose, which is a command of docker's or, in older releases, one of its own.
func composeCommand(ctx context.Context, args ...string) *exec.Cmd {
	if _, err := docker(ctx, "compose", "version"); err != nil {
		return exec.CommandContext(ctx, "docker-compose", args...)
	}
	return exec.CommandContext(ctx, "docker", append([]string{"compose"}, args...)...)
}

// wireSubnet6 keeps clusters that run at the same time apart: for IPv4 Docker has a pool to give each a subnet from, for IPv6 it has none.
func (c *Cluster) wireSubnet6() string {
	hash := fnv.New32a()
	hash.Write([]byte(c.opts.Name))
	sum := hash.Sum32()
	return fmt.Sprintf("fd00:4789:%x:%x::/64", sum>>16, sum&0xffff)
}

func (c *Cluster) findHosts(ctx context.Context) error {
	ids, err := c.compose(ctx, "ps", "-q", "host")
	if err != nil {
		return err
	}
	out, err := docker(ctx, append([]string{"inspect"}, strings.Fields(ids)...)...)
	if err != nil {
		return err
	}
	var containers []struct {
		Name   string
		Config struct{ Labels map[string]string }
	}
	if err := json.Unmarshal([]byte(out), &containers); err != nil {
		return fmt.Errorf("docker inspect: %w", err)
	}
	for _, container := range containers {
		number, err := strconv.Atoi(container.Config.Labels["com.docker.compose.container-number"])
		if err != nil {
			return fmt.Errorf("container %s is not one of Compose: %w", container.Name, err)
		}
		c.Hosts = append(c.Hosts, &Host{Name: strings.TrimPrefix(container.Name, "/"), Number: number})
	}
	slices.SortFunc(c.Hosts, func(a, b *Host) int { return cmp.Compare(a.Number, b.Number) })
	var errs []error
	for _, h := range c.Hosts {
		errs = append(errs, h.locate(ctx))
	}
	return errors.Join(errs...)
}
