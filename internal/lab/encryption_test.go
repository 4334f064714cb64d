//go:build lab

package lab

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

const (
	knownText = "nobody on the wire may read this line"
	knownSize = 10 << 20
)

// keys are what a host tells of those it has agreed on.
func keys(t *testing.T, h *Host) (all []struct {
	Host   string `json:"host"`
	Cipher string `json:"cipher"`
	SPI    string `json:"spi"`
	Reason string `json:"reason"`
}) {
	t.Helper()
	s := struct {
		Encryption any `json:"encryption"`
	}{&all}
	must(t, json.Unmarshal([]byte(shell(t, h, "overlane status -o json")), &s))
	return all
}

// spis are those of the keys by which the hosts send, and whose they are.
func spis(t *testing.T, hosts []*Host) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, h := range hosts {
		for _, k := range keys(t, h) {
			all[k.SPI] = h.Name + " to " + k.Host
		}
	}
	return all
}

// agreed waits until each of the hosts has keys for all the others.
func agreed(t *testing.T, hosts []*Host, cipher string) {
	t.Helper()
	for _, h := range hosts {
		eventually(t, h.Name+" has agreed on keys", settleTimeout, func() error {
			found := keys(t, h)
			for _, k := range found {
				if k.Cipher != cipher || k.Reason != "" {
					return fmt.Errorf("with %s: %q %s", k.Host, k.Cipher, k.Reason)
				}
			}
			if len(found) != len(hosts)-1 {
				return fmt.Errorf("with %d hosts", len(found))
			}
			return nil
		})
	}
}

// linesSeen has a container get a known text from one at an address, and says how often a line of it is in what their hosts' wire carried.
func linesSeen(t *testing.T, to, c *Container, addr netip.Addr) int {
	t.Helper()
	shell(t, c.Host, "rm -f /tmp/wire.pcap; tcpdump -q -i eth0 -B 65536 -s 0 -U -w /tmp/wire.pcap udp port 4789 >/tmp/wire.log 2>&1 & echo $! >/tmp/wire.pid")
	eventually(t, "tcpdump listens", settleTimeout, func() error {
		_, err := c.Host.Exec(t.Context(), "grep", "-q", "listening on", "/tmp/wire.log")
		return err
	})
	_, err := to.Exec(t.Context(), "curl", "-sf", "--max-time", "60", "-o", "/tmp/text", fmt.Sprintf("http://%s:7000/text", addr))
	must(t, err)
	sums := map[string]bool{}
	for _, box := range []*Container{c, to} {
		sum, err := box.Exec(t.Context(), "sha256sum", "/tmp/text")
		must(t, err)
		sums[sum] = true
	}
	if len(sums) != 1 {
		t.Errorf("the text arrives changed: %v", sums)
	}
	eventually(t, "tcpdump has it all", settleTimeout, func() error {
		if size := atoi(t, strings.TrimSpace(shell(t, c.Host, "stat -c %s /tmp/wire.pcap"))); size < knownSize {
			return fmt.Errorf("%d bytes", size)
		}
		return nil
	})
	out := shell(t, c.Host, "kill $(cat /tmp/wire.pid); "+ends+"$(cat /tmp/wire.pid); grep -a -o '"+knownText+"' /tmp/wire.pcap | wc -l; rm /tmp/wire.pcap")
	return atoi(t, strings.TrimSpace(out))
}

// Containers of an encrypted network speak across hosts, nobody on the wire reads it, and nobody joins it in plain.
func TestEncryptedNetwork(t *testing.T) {
	c := cluster(t)
	hosts := c.Hosts[:2]
	network(t, hosts, "secret", 21, "-o encrypted")
	network(t, hosts, "open", 22)
	red, redAt := start(t, hosts[0], "red", "secret")
	blue, blueAt := start(t, hosts[1], "blue", "secret")
	for _, box := range []*Container{red, blue} {
		shell(t, box.Host, "docker network connect open "+box.Name)
	}
	reach(t, red, blueAt.IPAddress, blueAt.GlobalIPv6Address)
	agreed(t, hosts, "aes-128-gcm")
	_, err := red.Exec(t.Context(), "sh", "-c", fmt.Sprintf("yes '%s' | head -c %d >/tmp/text; httpd -p 7000 -h /tmp", knownText, knownSize))
	must(t, err)
	if n := linesSeen(t, blue, red, redAt.IPAddress); n != 0 {
		t.Errorf("%d lines of the text are on the wire", n)
	}
	if n := linesSeen(t, blue, red, attachment(t, red, "open").IPAddress); n == 0 {
		t.Error("what goes in plain is not seen on the wire: neither would be what should not")
	}
	for _, box := range []*Container{red, blue} {
		mtus, err := box.Exec(t.Context(), "sh", "-c", "cat /sys/class/net/*/mtu")
		must(t, err)
		if !strings.Contains(mtus, "1408") || !strings.Contains(mtus, "1450") {
			t.Errorf("%s has interfaces of %q", box.Name, mtus)
		}
	}

	other := c.Hosts[2]
	_, err = other.Exec(t.Context(), "docker", "network", "create", "-d", "overlane", "--ipv6", "--subnet", "10.21.0.0/16", "--subnet", "fd00:21::/64", "plain")
	if err == nil || !strings.Contains(err.Error(), "-o encrypted") {
		t.Errorf("a plain network of the same name: %v", err)
	}
}

// A daemon that is killed has no keys any more: the hosts agree on new ones, and containers hear nothing of it but a moment's silence.
func TestEncryptedTrafficOutlivesDaemon(t *testing.T) {
	c := cluster(t)
	hosts := c.Hosts[:2]
	flows := map[string]*flow{}
	for i, name := range []string{"plain", "secret"} {
		options := map[string]string{"secret": "-o encrypted"}[name]
		network(t, hosts, name, 23+i, options)
		red, _ := start(t, hosts[0], "red-"+name, name)
		_, blueAt := start(t, hosts[1], "blue-"+name, name)
		flows[name] = begin(t, red, blueAt.IPAddress)
	}
	agreed(t, hosts, "aes-128-gcm")
	for _, h := range hosts {
		shell(t, h, "kill -9 $(cat /run/overlane.pid); start-overlane")
		for name, f := range flows {
			f.short(t, name+": overlane killed on "+h.Name)
		}
		agreed(t, hosts, "aes-128-gcm")
	}
}
