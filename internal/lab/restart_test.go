//go:build lab

package lab

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var echoReply = regexp.MustCompile(`bytes from .* icmp_seq=(\d+)`)

// A daemon that was killed takes its containers back when it starts again, and nobody touches them.
func TestDaemonKilled(t *testing.T) {
	c := cluster(t)
	network(t, c.Hosts, "app", 20)
	red, _ := start(t, c.Hosts[0], "red", "app")
	blue, blueAt := start(t, c.Hosts[1], "blue", "app")
	reach(t, red, blueAt.IPAddress)
	// On a terminal ping writes line by line.
	_, err := red.Host.Docker(t.Context(), "run", "--detach", "--tty", "--name", "ping", "--network", "container:red",
		"box", "ping", "-n", "-i", "0.1", blueAt.IPAddress.String())
	must(t, err)
	ping := &Container{Host: red.Host, Name: "ping"}

	for _, h := range c.Hosts[:2] {
		eventually(t, "the ping runs", settleTimeout, func() error { return answeredAfter(t, ping, 0) })
		shell(t, h, "kill -9 $(cat /run/overlane.pid); start-overlane")
		ready(t, []*Host{h})
		restarted := lastAnswer(t, ping)
		eventually(t, "the ping goes on after the start of "+h.Name, settleTimeout, func() error { return answeredAfter(t, ping, restarted) })
	}
	reach(t, red, blueAt.GlobalIPv6Address)

	// What was taken back can be removed as well.
	for _, container := range []*Container{ping, red, blue} {
		must(t, container.Remove(t.Context()))
	}
	for _, h := range c.Hosts[:2] {
		if s := status(t, h); len(s.Endpoints) != 0 || len(s.Datapath.Ports) != 0 {
			t.Errorf("%s: %d endpoints and %d ports left", h.Name, len(s.Endpoints), len(s.Datapath.Ports))
		}
		_, err := h.Docker(t.Context(), "network", "rm", "app")
		must(t, err)
	}
}

func answeredAfter(t *testing.T, c *Container, sequence int) error {
	t.Helper()
	if last := lastAnswer(t, c); last <= sequence {
		return fmt.Errorf("no echo reply after number %d", last)
	}
	return nil
}

// lastAnswer is the sequence number of the last reply that the container, which runs ping, has seen.
func lastAnswer(t *testing.T, c *Container) int {
	t.Helper()
	log, err := c.Host.Docker(t.Context(), "logs", "--tail", "20", c.Name)
	must(t, err)
	replies := echoReply.FindAllStringSubmatch(log, -1)
	if len(replies) == 0 {
		return 0
	}
	last, err := strconv.Atoi(replies[len(replies)-1][1])
	must(t, err)
	return last
}

// A host that is stopped says goodbye: the others forget its containers without waiting for it to be declared dead.
func TestHostLeaves(t *testing.T) {
	c := cluster(t)
	stays, leaves := c.Hosts[0], c.Hosts[1]
	network(t, c.Hosts, "app", 20)
	start(t, stays, "red", "app")
	start(t, leaves, "blue", "app")
	eventually(t, "the container is known", settleTimeout, func() error { return remotes(t, stays, 1) })
	id := strings.TrimSpace(shell(t, leaves, "overlane status -o json | jq -r .node.id"))

	_, err := docker(t.Context(), "stop", "--time", "30", leaves.Name)
	must(t, err)
	putBack(t, func() { boot(t, leaves, "start") })
	eventually(t, "the container is forgotten", settleTimeout, func() error { return remotes(t, stays, 0) })
	for _, m := range status(t, stays).Members {
		if m.ID == id && m.State != "left" {
			t.Errorf("%s is %s, not left", m.Host, m.State)
		}
	}
}
