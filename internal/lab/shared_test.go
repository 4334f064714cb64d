//go:build lab

package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// Tests run on as many clusters at a time, one after the other on each, for a boot takes longer than most of them.
const clusters = 2

// free are the clusters on which no test runs: one without hosts is yet to be started.
var free = make(chan *Cluster, clusters)

func TestMain(m *testing.M) {
	for i := range clusters {
		free <- &Cluster{opts: Options{Name: fmt.Sprint(sharedName, i+1), Hosts: sharedHosts, Underlay: underlay}}
	}
	code := m.Run()
	err := registry.close()
	for range clusters {
		err = errors.Join(err, (<-free).Down(context.Background()))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// cluster gives hosts on which nothing runs but the daemons, beside another test on other hosts. It demands the same of the test when it
// ends: containers and networks are removed for it, what else it has done it puts back. A test that fails takes its cluster down.
func cluster(t *testing.T) *Cluster {
	t.Helper()
	t.Parallel()
	c := <-free
	t.Cleanup(func() {
		if t.Failed() {
			saveLogs(t, c)
			must(t, c.Down(lasting(t)))
			c.Hosts = nil
		}
		free <- c
	})
	if len(c.Hosts) == 0 {
		began := time.Now()
		up, err := Up(t.Context(), c.opts)
		*c = *up
		must(t, err)
		acquainted(t, c)
		t.Logf("the hosts started in %v", time.Since(began))
	}
	putBack(t, func() { cleanUp(t, c) })
	return c
}

// putBack has a function called at the end of a test that has passed: one that failed leaves all as it is, to be looked at.
func putBack(t *testing.T, do func()) {
	t.Cleanup(func() {
		if !t.Failed() {
			do()
		}
	})
}

// cleanUp removes the containers and networks of a test, and looks that every trace of them is gone and the cluster whole.
func cleanUp(t *testing.T, c *Cluster) {
	t.Helper()
	empty(t, c.Hosts)
	eventually(t, "the hosts are as they were", settleTimeout, func() error {
		return each(c.Hosts, func(h *Host) error { return pristine(lasting(t), h, len(c.Hosts)) })
	})
}

// pristine demands that a host is as it was at first, among so many.
func pristine(ctx context.Context, h *Host, members int) error {
	out, err := h.Exec(ctx, "sh", "-ec", `{ overlane status -o json; overlane ipam -o json; } | jq -s add
		ip -o link show type tun | { grep -v ' overlane-gso[0-9]' || true; }
		docker plugin ls --quiet`)
	if err != nil {
		return err
	}
	var s struct {
		hostStatus
		hostAddresses
	}
	words := json.NewDecoder(strings.NewReader(out))
	if err := words.Decode(&s); err != nil {
		return err
	}
	if n := s.members("alive"); n != members {
		return fmt.Errorf("%s: %d members alive, not %d", h.Name, n, members)
	}
	if left := len(s.Networks) + len(s.Everywhere) + len(s.hostStatus.Endpoints) + len(s.Remote) + len(s.Datapath.Ports) + len(s.Addresses) + len(s.ready()); left > 0 {
		return fmt.Errorf("%s has still %+v", h.Name, s)
	}
	if left := strings.TrimSpace(out[words.InputOffset():]); left != "" {
		return fmt.Errorf("%s has still interfaces or plugins: %s", h.Name, left)
	}
	return nil
}

// empty removes all containers and networks of the hosts. An engine that has said that a container is gone may still count its
// endpoint for a moment. One that does so for longer, when overlane has none, has lost count for good (moby/moby issue 42119): it counts anew
// when it starts.
func empty(t *testing.T, hosts []*Host) {
	t.Helper()
	recount := map[*Host]*sync.Once{}
	for _, h := range hosts {
		recount[h] = new(sync.Once)
	}
	began := time.Now()
	eventually(t, "containers and networks are removed", settleTimeout, func() error {
		return each(hosts, func(h *Host) error {
			_, err := h.Exec(lasting(t), "sh", "-ec", `docker ps -aq | xargs -r docker rm -f -v
				for name in $(jq -r '.definitions[]? | select(.removed | not).name' /var/lib/overlane/networks.json 2>/dev/null); do
					overlane network rm $name || true # another host may have done so
				done
				docker network ls --format '{{.Driver}} {{.ID}}' | sed -n 's/^overlane[^ ]* //p' | xargs -r docker network rm`)
			if err != nil && strings.Contains(err.Error(), "has active endpoints") && time.Since(began) > settleTimeout/3 {
				recount[h].Do(func() {
					t.Logf("%s: its engine counts endpoints that are gone: it is started anew", h.Name)
					_, err = h.Exec(lasting(t), "sh", "-ec", `[ "$(overlane status -o json | jq '.endpoints | length')" = 0 ]; kill $(cat /run/docker.pid)`)
				})
			}
			return err
		})
	})
}

// each does something for all hosts at once.
func each(hosts []*Host, do func(*Host) error) error {
	var running errgroup.Group
	for _, h := range hosts {
		running.Go(func() error { return do(h) })
	}
	return running.Wait()
}

// shells runs a script on each of the hosts, on all at once.
func shells(t *testing.T, hosts []*Host, script func(*Host) string) {
	t.Helper()
	must(t, each(hosts, func(h *Host) error {
		_, err := h.Exec(lasting(t), "sh", "-ec", script(h))
		return err
	}))
}

// lasting is a context for commands that a test may run after its end too, to put things back. Each has a deadline of its own.
func lasting(t *testing.T) context.Context { return context.WithoutCancel(t.Context()) }
