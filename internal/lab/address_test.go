//go:build lab

package lab

import (
	"fmt"
	"net/netip"
	"testing"
)

// A host gets another address under traffic, as by DHCP, and then the first one again: the TCP stream between its container and
// another host's goes on. The other hosts learn where it is, and nobody restarts anything.
func TestHostAddressChanges(t *testing.T) {
	c := cluster(t)
	h := c.Hosts[1]
	network(t, c.Hosts, "app", 20)
	red, _ := start(t, c.Hosts[0], "red", "app")
	_, blueAt := start(t, h, "blue", "app")
	f := begin(t, red, blueAt.IPAddress)
	at := h.Addr.As4()
	at[3] ^= 64
	for _, addr := range []netip.Addr{netip.AddrFrom4(at), h.Addr} {
		renumber(t, h, addr)
		f.short(t, fmt.Sprintf("%s has %s", h.Name, addr))
		everyHost(t, c, "knows the others", func(h *Host) error { return alive(t, h, len(c.Hosts)) })
	}
}

// renumber takes a host's IPv4 address and its default route away, and gives it another one a moment later.
func renumber(t *testing.T, h *Host, addr netip.Addr) {
	t.Helper()
	shell(t, h, fmt.Sprintf(`gateway=$(ip -4 route show default | awk '{ print $3 }')
		bits=$(ip -4 -o address show dev eth0 | sed -E 's|.* inet [0-9.]*/([0-9]+) .*|\1|')
		ip -4 address flush dev eth0
		sleep 0.3
		ip address add %s/$bits dev eth0
		ip route add default via $gateway`, addr))
}
