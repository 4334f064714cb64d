package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// settleTimeout is what a change on one host may take until it is felt on every other one: ten times what it takes on a
// machine that has nothing else to do.
const settleTimeout = 30 * time.Second

var (
	pingReceived = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)
	pingAverage  = regexp.MustCompile(`= [\d.]+/([\d.]+)/`)
)

// Ping sends count echo requests, each when the one before is answered, and fails unless each is within a second. It gives the
// average round trip in milliseconds. A ping that sends several waits for the last answer no longer than for the others.
func (c *Container) Ping(ctx context.Context, to netip.Addr, count int, args ...string) (float64, error) {
	script := fmt.Sprintf("for i in $(seq %d); do /usr/bin/ping -n -c 1 -W 1 %s %s || exit; done", count, strings.Join(args, " "), to)
	out, err := c.Exec(ctx, "sh", "-c", script)
	if err != nil {
		return 0, err
	}
	var sum float64
	answers := pingAverage.FindAllStringSubmatch(out, -1)
	if len(answers) != count {
		return 0, fmt.Errorf("ping from %s to %s: not every request was answered: %s", c.Name, to, out)
	}
	for _, answer := range answers {
		took, err := strconv.ParseFloat(answer[1], 64)
		if err != nil {
			return 0, err
		}
		sum += took
	}
	return sum / float64(count), nil
}

// Reach waits until the address answers an echo request.
func (c *Container) Reach(ctx context.Context, to netip.Addr) error {
	return Wait(ctx, settleTimeout, func(ctx context.Context) error {
		_, err := c.Ping(ctx, to, 1)
		return err
	})
}

// Get fetches the page that the containers of the lab serve at an address and port.
func (c *Container) Get(ctx context.Context, from netip.Addr, port int) (string, error) {
	return c.Exec(ctx, "curl", "-sS", "--fail", "--max-time", "5", "http://"+net.JoinHostPort(from.String(), strconv.Itoa(port))+"/")
}

// Iperf sends a TCP stream to the iperf3 server at the address and gives the rate, in bit/s, at which it arrived. An iperf3
// whose peer went does not end by itself.
func (c *Container) Iperf(ctx context.Context, to netip.Addr, duration time.Duration) (float64, error) {
	seconds := int(duration / time.Second)
	limit := strconv.Itoa(seconds + 30)
	out, err := c.Exec(ctx, "timeout", "-s", "KILL", limit, "iperf3", "--json", "--connect-timeout", "5000", "-t", strconv.Itoa(seconds), "-c", to.String())
	if err != nil {
		return 0, err
	}
	var report struct {
		End struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		return 0, fmt.Errorf("iperf3 from %s to %s: %w", c.Name, to, err)
	}
	if report.End.Received.BitsPerSecond == 0 {
		return 0, fmt.Errorf("iperf3 from %s to %s: nothing arrived", c.Name, to)
	}
	return report.End.Received.BitsPerSecond, nil
}
