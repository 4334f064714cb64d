package overlay_test

import (
	"net/netip"
	"testing"

	"github.com/overlane/overlane/overlay"
)

// outer is the length of the IP packet that carries a container's of the given length, header by header.
func outer(inner int, ip int, encrypted bool) int {
	const udp, vxlan, ethernet = 8, 8, 14
	frame := ethernet + inner
	if !encrypted {
		return ip + udp + vxlan + frame
	}
	const spi, seq, iv, padLength, next, icv = 4, 4, 8, 1, 1, 16
	sealed := udp + vxlan + frame + padLength + next
	for sealed%4 != 0 {
		sealed++ // padding
	}
	return ip + udp + spi + seq + iv + sealed + icv
}

func TestOverhead(t *testing.T) {
	for _, c := range []struct {
		vtep      string
		ip        int
		encrypted bool
		at1500    int
	}{
		{"192.0.2.1", 20, false, 1450},
		{"2001:db8::1", 40, false, 1430},
		{"192.0.2.1", 20, true, 1408},
		{"2001:db8::1", 40, true, 1388},
	} {
		vtep := netip.MustParseAddr(c.vtep)
		if got := overlay.InnerMTU(1500, vtep, c.encrypted); got != c.at1500 {
			t.Errorf("%s, encrypted %v: 1500 bytes carry %d, want %d", vtep, c.encrypted, got, c.at1500)
		}
		for path := 576; path <= 9000; path++ {
			mtu := overlay.InnerMTU(path, vtep, c.encrypted)
			if longest, longer := outer(mtu, c.ip, c.encrypted), outer(mtu+1, c.ip, c.encrypted); longest > path || longer <= path {
				t.Fatalf("%s, encrypted %v: %d bytes carry %d, which takes %d; one more takes %d", vtep, c.encrypted, path, mtu, longest, longer)
			}
			if needs := overlay.PathMTU(mtu, vtep, c.encrypted); needs != outer(mtu, c.ip, c.encrypted) {
				t.Fatalf("%s, encrypted %v: MTU %d needs %d, want %d", vtep, c.encrypted, mtu, needs, outer(mtu, c.ip, c.encrypted))
			}
		}
	}
}
