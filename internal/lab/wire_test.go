//go:build lab

package lab

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A wire that loses, repeats and reorders must cost speed alone.
func TestBadWire(t *testing.T) {
	c := cluster(t)
	network(t, c.Hosts, "app", 20)
	red, redAt := start(t, c.Hosts[0], "red", "app")
	blue, blueAt := start(t, c.Hosts[1], "blue", "app")
	reach(t, red, blueAt.IPAddress, blueAt.GlobalIPv6Address)

	restore, err := Impair(t.Context(), c.Hosts[0], Impairment{Loss: 0.01, Duplicate: 0.01, Reorder: 0.01})
	must(t, err)
	defer func() { must(t, restore()) }()

	for _, way := range []struct {
		from, to *Container
		addr     netip.Addr
	}{
		{red, blue, blueAt.IPAddress},
		{blue, red, redAt.IPAddress},
		{red, blue, blueAt.GlobalIPv6Address},
		{blue, red, redAt.GlobalIPv6Address},
	} {
		rate, err := way.from.Iperf(t.Context(), way.addr, time.Second)
		must(t, err)
		t.Logf("%s → %s %s: %.0f Mbit/s", way.from.Name, way.to.Name, way.addr, rate/1e6)
	}
	download(t, red, blue, blueAt.IPAddress)
	download(t, blue, red, redAt.GlobalIPv6Address)
}

// download copies a file over HTTP and compares checksums.
func download(t *testing.T, from, server *Container, addr netip.Addr) {
	t.Helper()
	out, err := server.Exec(t.Context(), "sh", "-c", fmt.Sprintf("head -c %d /dev/urandom >/www/file && sha256sum </www/file", downloadBytes))
	must(t, err)
	want, _, _ := strings.Cut(out, " ")
	url := fmt.Sprintf("http://%s/file", netip.AddrPortFrom(addr, 80))
	out, err = from.Exec(t.Context(), "sh", "-c", "curl -sS --fail --max-time 100 "+url+" | sha256sum")
	must(t, err)
	if got, _, _ := strings.Cut(out, " "); got != want {
		t.Errorf("%d bytes from %s to %s arrived with checksum %s, were sent with %s", downloadBytes, server.Name, from.Name, got, want)
	}
}

// The hosts' own network may be IPv6; the containers see no difference but 20 bytes.
func TestIPv6Wire(t *testing.T) {
	c := cluster(t)
	// What the daemons know of each other by IPv4 is gone.
	restartWith(t, c.Hosts, func(h *Host) string { return "rm -r /var/lib/overlane; export OVERLANE_ADVERTISE=" + h.Addr6.String() })
	acquainted(t, c)

	network(t, c.Hosts, "app", 20)
	red, redAt := start(t, c.Hosts[0], "red", "app")
	blue, blueAt := start(t, c.Hosts[1], "blue", "app")
	reach(t, red, blueAt.IPAddress, blueAt.GlobalIPv6Address)
	reach(t, blue, redAt.IPAddress, redAt.GlobalIPv6Address)
	download(t, red, blue, blueAt.IPAddress)
	download(t, blue, red, redAt.GlobalIPv6Address)
	mtu, err := red.Exec(t.Context(), "cat", "/sys/class/net/eth0/mtu")
	must(t, err)
	if mtu != "1430" {
		t.Errorf("MTU %s over a wire of 1500, want 1430", mtu)
	}
}

// Hosts whose packets go by different ways are one network: each takes what each other sends.
func TestMixedUnderlays(t *testing.T) {
	c := cluster(t)
	// The first is a tap for super-frames where the kernel has one.
	for i, kind := range []string{"af_xdp", "af_packet"} {
		h := c.Hosts[i+1]
		restartWith(t, []*Host{h}, func(*Host) string { return "export UNDERLAY=" + kind })
		if driver := strings.TrimSpace(shell(t, h, "overlane status -o json | jq -r .datapath.device.driver")); driver != "net_"+kind {
			t.Fatalf("%s has the driver %s, want net_%s", h.Name, driver, kind)
		}
	}
	acquainted(t, c)
	network(t, c.Hosts, "app", 20)
	var containers []*Container
	var at []Attachment
	for _, h := range c.Hosts {
		container, attachment := start(t, h, fmt.Sprint("box", h.Number), "app")
		containers, at = append(containers, container), append(at, attachment)
	}
	for i, from := range containers {
		for j, to := range containers {
			addr := at[j].IPAddress
			if i > j {
				addr = at[j].GlobalIPv6Address
			}
			if i != j {
				reach(t, from, at[j].IPAddress, at[j].GlobalIPv6Address)
				download(t, from, to, addr)
			}
		}
	}
}
