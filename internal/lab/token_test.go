//go:build lab

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/overlane/overlane/discovery"
)

// startWith starts the daemons anew with a token; empty: with what is on disk.
func startWith(t *testing.T, hosts []*Host, token string) {
	t.Helper()
	restartWith(t, hosts, func(*Host) string { return "export OVERLANE_TOKEN=" + token })
}

// The token is changed while three hosts talk, on an encrypted network whose keys change with it, and no packet is lost. Who has the old one stays
// outside.
func TestTokenRotation(t *testing.T) {
	c := cluster(t)
	startWith(t, c.Hosts, "")
	acquainted(t, c)
	network(t, c.Hosts, "app", 20, "-o encrypted")
	var boxes []*Container
	var at []Attachment
	for _, h := range c.Hosts {
		box, a := start(t, h, "box", "app")
		boxes, at = append(boxes, box), append(at, a)
	}
	for i, box := range boxes {
		to := at[(i+1)%len(at)].IPAddress
		reach(t, box, to)
		agreed(t, c.Hosts, "aes-128-gcm")
		_, err := box.Exec(t.Context(), "sh", "-c", fmt.Sprintf("/usr/bin/ping -n -i 0.02 %s >/tmp/ping.log 2>&1 & echo $! >/tmp/ping.pid", to))
		must(t, err)
	}
	before := spis(t, c.Hosts)
	old := fingerprints(t, c.Hosts[0])
	said, err := c.Hosts[1].Exec(t.Context(), "overlane", "token", "rotate")
	must(t, err)
	token := strings.TrimSpace(shell(t, c.Hosts[0], "overlane token"))
	everyHost(t, c, "knows of the new token alone", func(h *Host) error {
		if now := fingerprints(t, h); len(old) != 1 || len(now) != 1 || now[0] == old[0] || !strings.Contains(said, now[0]) || token == c.Token {
			return fmt.Errorf("%v after %v; the command said %s", now, old, said)
		}
		return nil
	})
	eventually(t, "the keys for packets are others", settleTimeout, func() error {
		for spi, which := range spis(t, c.Hosts) {
			if before[spi] != "" {
				return fmt.Errorf("%s is that of before", which)
			}
		}
		return nil
	})
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
	acquainted(t, c)
	// A host that is set up anew as the first ones were.
	shell(t, c.Hosts[2], "docker rm -f box late >/dev/null; docker network rm app; "+stopDaemon+"; rm -r /var/lib/overlane; : >/var/log/overlane.log; start-overlane")
	ready(t, c.Hosts[2:])
	eventually(t, "the old token is refused", settleTimeout, func() error { return says(t, c.Hosts[2], "another token") })
	eventually(t, "it is alone", settleTimeout, func() error { return alive(t, c.Hosts[2], 1) })
	shell(t, c.Hosts[2], stopDaemon+"; export OVERLANE_TOKEN="+token+"; start-overlane")
	ready(t, c.Hosts[2:])
	eventually(t, "the new one lets it in", settleTimeout, func() error { return alive(t, c.Hosts[2], 3) })
}

// says checks that a word is in the log of a host's daemon.
func says(t *testing.T, h *Host, word string) error {
	t.Helper()
	if log := shell(t, h, "cat /var/log/overlane.log"); !strings.Contains(log, word) {
		return fmt.Errorf("its log has no word of %s:\n%s", word, log)
	}
	return nil
}

// A host that was given no token does not start, and says what to do; one that joins nobody begins a cluster, which another one joins by its
// token from a file.
func TestTokenIsNeeded(t *testing.T) {
	c := cluster(t)
	first, second := c.Hosts[0], c.Hosts[1]
	stop(t, c.Hosts...)
	shells(t, c.Hosts[:2], func(*Host) string { return "rm -r /var/lib/overlane" })
	shell(t, first, "export OVERLANE_TOKEN= OVERLANE_JOIN=; start-overlane")
	ready(t, c.Hosts[:1])
	if _, err := second.Exec(t.Context(), "sh", "-c", "OVERLANE_TOKEN= overlane daemon --join "+first.Addr.String()); err == nil || !strings.Contains(err.Error(), "run `overlane token`") {
		t.Errorf("without a token: %v", err)
	}
	token := strings.TrimSpace(shell(t, first, "overlane token"))
	shell(t, second, fmt.Sprintf("umask 077; echo %s >/etc/overlane.token; export OVERLANE_TOKEN=/etc/overlane.token OVERLANE_JOIN=%s; start-overlane", token, first.Addr))
	eventually(t, "they know each other", settleTimeout, func() error { return alive(t, first, 2) })
	shell(t, second, stopDaemon+"; rm /etc/overlane.token; export OVERLANE_TOKEN= OVERLANE_JOIN=; start-overlane")
	eventually(t, "the token is on disk", settleTimeout, func() error { return alive(t, first, 2) })
	if mode := strings.TrimSpace(shell(t, second, "stat -c %a /var/lib/overlane/keyring.json")); mode != "600" {
		t.Errorf("its mode is %s", mode)
	}
}

// fingerprints are those of the host's keys, the one it encrypts with first.
func fingerprints(t *testing.T, h *Host) []string {
	t.Helper()
	out, err := h.Exec(t.Context(), "overlane", "token", "list", "-o", "json")
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

// A host with another token joins nothing and says so; the others count what it sends, and go on.
func TestWrongToken(t *testing.T) {
	c := cluster(t)
	stranger := c.Hosts[2]
	shell(t, stranger, stopDaemon) // as long as it has their token, the others take it for one of theirs
	startWith(t, c.Hosts[:2], "")
	startWith(t, c.Hosts[2:], discovery.NewToken().Text())
	eventually(t, "the two know each other", settleTimeout, func() error { return errors.Join(alive(t, c.Hosts[0], 2), alive(t, c.Hosts[1], 2)) })
	eventually(t, "the stranger says what is wrong", settleTimeout, func() error { return says(t, stranger, "another token") })
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
		eventually(t, "the stranger stays one", settleTimeout, func() error { return alive(t, h, want) })
	}
}
