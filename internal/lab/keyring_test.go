//go:build lab

package lab

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

const (
	oldKey   = "000102030405060708090a0b0c0d0e0f"
	newKey   = "101112131415161718191a1b1c1d1e1f"
	wrongKey = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
)

// startWith starts the daemons anew with a gossip key.
func startWith(t *testing.T, hosts []*Host, key string) {
	t.Helper()
	restartWith(t, hosts, func(*Host) string { return "export OVERLANE_GOSSIP_KEY=" + key })
}

// The key is changed while three hosts talk, and no packet is lost.
func TestKeyRotation(t *testing.T) {
	c := cluster(t)
	startWith(t, c.Hosts, oldKey)
	acquainted(t, c)
	network(t, c.Hosts, "app", 20)
	var boxes []*Container
	var at []Attachment
	for _, h := range c.Hosts {
		box, a := start(t, h, "box", "app")
		boxes, at = append(boxes, box), append(at, a)
	}
	for i, box := range boxes {
		to := at[(i+1)%len(at)].IPAddress
		reach(t, box, to)
		_, err := box.Exec(t.Context(), "sh", "-c", fmt.Sprintf("/usr/bin/ping -n -i 0.02 %s >/tmp/ping.log 2>&1 & echo $! >/tmp/ping.pid", to))
		must(t, err)
	}
	old := fingerprints(t, c.Hosts[0])[0]
	for _, verb := range []string{"add", "use", "remove"} {
		key := map[string]string{"add": newKey, "remove": old}[verb]
		if verb == "use" {
			key = fingerprints(t, c.Hosts[0])[1]
		}
		for _, h := range c.Hosts {
			// A step that the others have not all heard of yet is refused, with a word on who is missing.
			eventually(t, h.Name+" "+verb, settleTimeout, func() error {
				_, err := h.Exec(t.Context(), "overlane", "keyring", verb, key)
				return err
			})
		}
	}
	// What is announced with the new key alone arrives.
	for _, h := range c.Hosts {
		late, _ := start(t, h, "late", "app")
		for _, a := range at {
			reach(t, late, a.IPAddress)
		}
	}
	everyHost(t, c, "knows all containers", func(h *Host) error { return remotes(t, h, 4) })
	for _, box := range boxes {
		out, err := box.Exec(t.Context(), "sh", "-c", "pid=$(cat /tmp/ping.pid); kill -INT $pid; timeout 10 sh -c \"while kill -0 $pid 2>/dev/null; do sleep 0.1; done\" && cat /tmp/ping.log")
		must(t, err)
		summary := pingReceived.FindStringSubmatch(out)
		if summary == nil {
			t.Fatalf("%s: no summary of the ping:\n%s", box.Host.Name, out)
		}
		sent, last, lost := atoi(t, summary[1]), 0, []int{}
		for _, reply := range echoReply.FindAllStringSubmatch(out, -1) {
			for n := atoi(t, reply[1]); last < n; {
				if last++; last < n {
					lost = append(lost, last)
				}
			}
		}
		t.Logf("%s: %d echo requests, the last answer is to %d", box.Host.Name, sent, last)
		const aSecond = 50 // requests
		// Those of the last second may have been on their way when ping was stopped: how many is up to the machine.
		if last < 100 || len(lost) > 0 || sent-last > aSecond {
			t.Errorf("%s: %d echo requests, the last answer is to %d, and none to %v", box.Host.Name, sent, last, lost)
		}
	}
	for _, m := range status(t, c.Hosts[0]).Members {
		if m.State != "alive" {
			t.Errorf("%s is %s", m.Host, m.State)
		}
	}
}

// fingerprints are those of the host's keys, the one it encrypts with first.
func fingerprints(t *testing.T, h *Host) []string {
	t.Helper()
	out, err := h.Exec(t.Context(), "overlane", "keyring", "list", "-o", "json")
	must(t, err)
	var keys []struct {
		Fingerprint string `json:"fingerprint"`
	}
	must(t, json.Unmarshal([]byte(out), &keys))
	var all []string
	for _, k := range keys {
		all = append(all, k.Fingerprint)
	}
	return all
}

func atoi(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}

// A host with another key joins nothing and says so; the others count what it sends, and go on.
func TestWrongKey(t *testing.T) {
	c := cluster(t)
	stranger := c.Hosts[2]
	startWith(t, c.Hosts[:2], oldKey)
	startWith(t, c.Hosts[2:], wrongKey)
	eventually(t, "the two know each other", settleTimeout, func() error { return alive(t, c.Hosts[0], 2) })
	eventually(t, "the stranger says what is wrong", settleTimeout, func() error {
		log := shell(t, stranger, "cat /var/log/overlane.log")
		if !strings.Contains(log, "gossip key") {
			return fmt.Errorf("its log has no word of the gossip key:\n%s", log)
		}
		return nil
	})
	counted := func() uint64 {
		return status(t, c.Hosts[0]).Gossip.Rejected["key"] + status(t, c.Hosts[1]).Gossip.Rejected["key"]
	}
	before := counted()
	eventually(t, "the others count it", settleTimeout, func() error {
		if counted() <= before {
			return fmt.Errorf("%d messages with another key, as many as before", before)
		}
		return nil
	})
	network(t, c.Hosts, "app", 20)
	red, _ := start(t, c.Hosts[0], "red", "app")
	_, blueAt := start(t, c.Hosts[1], "blue", "app")
	_, greenAt := start(t, stranger, "green", "app")
	reach(t, red, blueAt.IPAddress)
	unreachable(t, red, greenAt.IPAddress)
	for _, h := range c.Hosts {
		want := 2
		if h == stranger {
			want = 1
		}
		must(t, alive(t, h, want))
	}
}
