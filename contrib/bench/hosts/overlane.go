package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// idleWindow is how long the daemons are watched while the containers have nothing to say.
const idleWindow = 10 * time.Second

// overlanePair is two daemons, each in its host's namespace with a CPU for its worker, driven as Docker drives them.
type overlanePair struct {
	pair
	dir     string
	daemons [2]*exec.Cmd
}

func overlane(ctx context.Context, binary string) (*overlanePair, error) {
	p := &overlanePair{}
	made, err := newPair(ctx, "overlane")
	p.pair = *made
	if err != nil {
		return p, err
	}
	if p.dir, err = os.MkdirTemp("", "overlane-bench"); err != nil {
		return p, err
	}
	for i := range p.daemons {
		if err := p.start(ctx, binary, i); err != nil {
			return p, err
		}
	}
	for i := range p.daemons {
		if err := p.network(ctx, i); err != nil {
			return p, err
		}
	}
	for n := range p.boxes {
		if err := p.container(ctx, n); err != nil {
			return p, err
		}
	}
	return p, within(ctx, func() error {
		return errors.Join(p.ping(ctx, 0, 1), p.ping(ctx, 2, 3))
	})
}

func (p *overlanePair) ping(ctx context.Context, from, to int) error {
	return in(ctx, p.boxes[from], "ping", "-q", "-c", "1", "-W", "1", boxAddr[to]).Run()
}

func (p *overlanePair) file(i int, name string) string {
	return filepath.Join(p.dir, fmt.Sprintf("%d-%s", i, name))
}

func (p *overlanePair) start(ctx context.Context, binary string, i int) error {
	log, err := os.Create(p.file(i, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	daemon := in(ctx, p.hosts[i], binary, "daemon", "--advertise", wire[i], "--join", wire[0], "--cpus", fmt.Sprint(i),
		"--data-dir", p.file(i, "data"), "--plugin-socket", p.file(i, "plugin.sock"), "--control-socket", p.file(i, "control.sock"))
	daemon.Stdout, daemon.Stderr = log, log
	daemon.Cancel = func() error { return daemon.Process.Signal(syscall.SIGTERM) }
	if err := daemon.Start(); err != nil {
		return err
	}
	p.daemons[i] = daemon
	if err := within(ctx, func() error { return p.call(ctx, i, "NetworkDriver.GetCapabilities", nil) }); err != nil {
		text, _ := os.ReadFile(p.file(i, "log"))
		return fmt.Errorf("%w\n%s", err, text)
	}
	return nil
}

// id is one of Docker's: 64 digits, by the kind of thing and its number.
func id(kind string, number int) string {
	return fmt.Sprintf("%s%d", strings.Repeat(kind, 63), number)
}

// network asks host i for the network in Docker's words.
func (p *overlanePair) network(ctx context.Context, i int) error {
	pool := []map[string]any{{"AddressSpace": "bench", "Pool": "10.62.0.0/24"}}
	return p.call(ctx, i, "NetworkDriver.CreateNetwork", map[string]any{"NetworkID": id("a", i), "IPv4Data": pool,
		"Options": map[string]any{"com.docker.network.generic": map[string]string{"vni": fmt.Sprint(vni)}}})
}

// container asks for an endpoint in Docker's words, and moves the tap into box n as Docker does.
func (p *overlanePair) container(ctx context.Context, n int) error {
	i, space := n%2, p.boxes[n]
	network, endpoint := id("a", i), id("e", n)
	for _, step := range []struct {
		method string
		body   map[string]any
	}{
		{"NetworkDriver.CreateEndpoint", map[string]any{"NetworkID": network, "EndpointID": endpoint,
			"Interface": map[string]string{"Address": boxAddr[n] + "/24", "MacAddress": boxMAC[n]}}},
		{"NetworkDriver.Join", map[string]any{"NetworkID": network, "EndpointID": endpoint, "SandboxKey": "/run/netns/" + space}},
	} {
		if err := p.call(ctx, i, step.method, step.body); err != nil {
			return err
		}
	}
	return script(ctx,
		fmt.Sprintf("ip -n %s link set $(ip -n %s -br link show type tun | cut -d' ' -f1) netns %s name eth0", p.hosts[i], p.hosts[i], space),
		fmt.Sprintf("ip -n %s addr add %s/24 dev eth0", space, boxAddr[n]),
		fmt.Sprintf("ip -n %s link set eth0 up", space))
}

// call posts one request of Docker's driver protocol.
func (p *overlanePair) call(ctx context.Context, i int, method string, body map[string]any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	dial := func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", p.file(i, "plugin.sock"))
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin/"+method, bytes.NewReader(text))
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var answer struct{ Err string }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Err != "" {
		return fmt.Errorf("%s: %s %s: %v", method, response.Status, answer.Err, err)
	}
	return nil
}

// idle is the busier daemon's share of a core while its containers have nothing to say, in per cent.
func (p *overlanePair) idle(ctx context.Context) (float64, error) {
	var before [2]time.Duration
	for i, daemon := range p.daemons {
		used, err := cpuTime(daemon.Process.Pid)
		if err != nil {
			return 0, err
		}
		before[i] = used
	}
	select {
	case <-time.After(idleWindow):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	worst := 0.0
	for i, daemon := range p.daemons {
		used, err := cpuTime(daemon.Process.Pid)
		if err != nil {
			return 0, err
		}
		worst = max(worst, 100*(used-before[i]).Seconds()/idleWindow.Seconds())
	}
	return worst, nil
}

func (p *overlanePair) remove() {
	for _, daemon := range p.daemons {
		if daemon != nil {
			daemon.Process.Signal(syscall.SIGTERM)
			daemon.Wait()
		}
	}
	p.pair.remove()
	if p.dir != "" {
		os.RemoveAll(p.dir)
	}
}

// within tries until it works, for ten seconds at most.
func within(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		err := try()
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}
