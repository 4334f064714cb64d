//go:build lab

package lab

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	// healed is how long a partition that has ended may be felt: ten times what is usual, as the others.
	healed = 20 * time.Second
	// withdrawn is when the containers of a host that died must be forgotten.
	withdrawn = time.Minute
	// follows is what traffic may take to find a container that has moved.
	follows = 5 * time.Second
)

// While a host is cut off, containers come and go on both sides. When it is back all hosts agree at once, and all
// containers that are left reach each other.
func TestPartition(t *testing.T) {
	c := cluster(t)
	network(t, c.Hosts, "app", 20)
	standing := map[*Container]Attachment{}
	for _, h := range c.Hosts {
		first, at := start(t, h, fmt.Sprint("first", h.Number), "app")
		standing[first] = at
	}
	everyHost(t, c, "knows the others' containers", func(h *Host) error { return remotes(t, h, 2) })

	restore, err := Unplug(t.Context(), c.Hosts[2])
	must(t, err)
	cut := time.Now()
	for round := 0; !apart(t, c) || time.Since(cut) < partitioned; round++ {
		for _, h := range c.Hosts {
			came, at := start(t, h, fmt.Sprintf("came%d-%d", h.Number, round), "app")
			if round == 0 {
				standing[came] = at
			} else {
				must(t, came.Remove(t.Context()))
			}
		}
	}
	t.Logf("cut off for %v", time.Since(cut))
	for container := range standing {
		if container.Host != c.Hosts[1] && strings.HasPrefix(container.Name, "first") {
			must(t, container.Remove(t.Context()))
			delete(standing, container)
		}
	}
	must(t, restore())
	back := time.Now()
	for container := range standing {
		reachAll(t, container, standing, healed-time.Since(back))
	}
	eventually(t, "all hosts agree", healed-time.Since(back), func() error { return agree(t, c, len(standing)) })
	t.Logf("healed after %v", time.Since(back))
}

// apart tells whether the last host and the others take each other for dead.
func apart(t *testing.T, c *Cluster) bool {
	t.Helper()
	last := len(c.Hosts) - 1
	for _, h := range c.Hosts[:last] {
		if alive(t, h, last) != nil {
			return false
		}
	}
	return alive(t, c.Hosts[last], 1) == nil
}

// reachAll demands an answer from all within a time, asking them side by side.
func reachAll(t *testing.T, from *Container, to map[*Container]Attachment, within time.Duration) {
	t.Helper()
	var script strings.Builder
	for container, at := range to {
		fmt.Fprintf(&script, "{ timeout %d sh -c 'until ping -c 1 -W 1 %s; do :; done' >/dev/null 2>&1 || echo %s; } & ",
			int(within.Seconds()+0.5), at.IPAddress, container.Name)
	}
	out, err := from.Exec(t.Context(), "sh", "-c", script.String()+"wait")
	must(t, err)
	if out != "" {
		t.Errorf("%s does not reach %s", from.Name, strings.Fields(out))
	}
}

// agree demands the same records of all hosts, so many.
func agree(t *testing.T, c *Cluster, want int) error {
	t.Helper()
	var first []string
	for _, h := range c.Hosts {
		records := recordsOf(t, h)
		if len(records) != want {
			return fmt.Errorf("%s has %d records, not %d", h.Name, len(records), want)
		}
		if first == nil {
			first = records
		}
		if !slices.Equal(records, first) {
			return fmt.Errorf("%s has %q, the first host %q", h.Name, records, first)
		}
	}
	return nil
}

// recordsOf is what `overlane status records` shows of the endpoints in use.
func recordsOf(t *testing.T, h *Host) []string {
	t.Helper()
	out, err := h.Exec(t.Context(), "overlane", "status", "records", "-o", "json")
	must(t, err)
	var all []struct {
		ID      string         `json:"id"`
		Network string         `json:"network"`
		VTEP    netip.AddrPort `json:"vtep"`
		MAC     string         `json:"mac"`
		Addrs   []netip.Addr   `json:"addrs"`
		Hidden  bool           `json:"hidden"`
	}
	must(t, json.Unmarshal([]byte(out), &all))
	var records []string
	for _, r := range all {
		if !r.Hidden {
			records = append(records, fmt.Sprintf("%+v", r))
		}
	}
	slices.Sort(records)
	return records
}

// A host dies, and a container of it is started elsewhere at once, with its addresses: traffic follows it before the
// cluster has found the host dead.
func TestHostDies(t *testing.T) {
	c := cluster(t)
	network(t, c.Hosts, "app", 20)
	red, _ := start(t, c.Hosts[0], "red", "app")
	start(t, c.Hosts[2], "other", "app")
	identity := []string{"--ip", "10.20.9.9", "--mac-address", "02:42:0a:14:09:09"}
	_, at := start(t, c.Hosts[2], "db", "app", identity...)
	reach(t, red, at.IPAddress)
	eventually(t, "red's host knows both", settleTimeout, func() error { return remotes(t, c.Hosts[0], 2) })

	kill(t, c.Hosts[2])
	killed := time.Now()
	start(t, c.Hosts[1], "db", "app", identity...)
	moved := time.Now()
	eventually(t, "traffic follows", follows, func() error {
		_, err := red.Ping(t.Context(), at.IPAddress, 1)
		return err
	})
	t.Logf("traffic followed %v after the start elsewhere, %v after the death", time.Since(moved), time.Since(killed))
	eventually(t, "the dead host's containers are withdrawn", withdrawn-time.Since(killed), func() error {
		if records := recordsOf(t, c.Hosts[0]); len(records) != 2 {
			return fmt.Errorf("%q", records)
		}
		return nil
	})
	t.Logf("withdrawn %v after the death", time.Since(killed))
}

// Two hosts die at once, and the last takes itself for cut off. What they ran is refused there with the command to run, and that is
// enough: where the engines hand out the addresses, and where overlane does.
func TestTwoHostsDieAtOnce(t *testing.T) {
	c := cluster(t)
	last, dead := c.Hosts[0], c.Hosts[1:]
	network(t, c.Hosts, "app", 20)
	pooled(t, c.Hosts, "pool", "10.54.0.0/26")
	containers := map[string][]string{"web": {"--network", "app", "--ip", "10.20.9.9"}, "db": {"--network", "pool", "--ip", "10.54.0.9"}}
	for i, name := range []string{"web", "db"} {
		_, err := dead[i].Run(t.Context(), name, containers[name]...)
		must(t, err)
	}
	eventually(t, "the last host knows both", settleTimeout, func() error { return remotes(t, last, 2) })
	kill(t, dead...)
	eventually(t, "both are found dead", withdrawn, func() error { return members(t, last, "dead", 2) })
	for _, name := range []string{"db", "web"} {
		_, err := last.Run(t.Context(), name, containers[name]...)
		if err == nil {
			t.Fatalf("%s starts, though this host may be cut off", name)
		}
		cure := regexp.MustCompile("run `(overlane [^`]+)`").FindStringSubmatch(err.Error())
		if cure == nil {
			t.Fatalf("%s is refused without a word of what to run: %v", name, err)
		}
		t.Logf("%s: %s", name, cure[1])
		shell(t, last, cure[1]+"; docker rm "+name)
		_, err = last.Run(t.Context(), name, containers[name]...)
		must(t, err)
	}
}
