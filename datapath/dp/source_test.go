//go:build dptest

package dp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

// Who else is in the network, behind the same VTEP as dstMAC, and what nobody has.
var (
	otherMAC  = []byte{2, 0x42, 10, 0, 0, 4}
	other4    = netip.MustParseAddr("10.20.0.4")
	other6    = netip.MustParseAddr("fd00:20::4")
	unknown4  = netip.MustParseAddr("192.0.2.77")
	unknown6  = netip.MustParseAddr("2001:db8::77")
	allNodes6 = netip.MustParseAddr("ff02::1")
)

func others(t *testing.T) testBench {
	t.Helper()
	b := bench()
	for _, err := range []error{
		SetMACVTEP(benchVNI, [6]byte(otherMAC), b.vtep),
		SetNeighbour(benchVNI, other4, [6]byte(otherMAC), false), SetNeighbour(benchVNI, other6, [6]byte(otherMAC), false),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		DelMAC(benchVNI, [6]byte(otherMAC))
		DelNeighbour(benchVNI, other4)
		DelNeighbour(benchVNI, other6)
	})
	return b
}

func ether(from []byte, kind uint16, text ...[]byte) []byte {
	frame := append(append(bytes.Repeat([]byte{0xff}, 6), from...), byte(kind>>8), byte(kind))
	return append(frame, bytes.Join(text, nil)...)
}

// ip is a frame of UDP from an address to the container.
func ip(from []byte, addr netip.Addr) []byte {
	udp := []byte{0, 9, 0, 9, 0, 8, 0, 0}
	var frame []byte
	if addr.Is4() {
		head := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0}
		frame = ether(from, 0x800, head, addr.AsSlice(), src4.AsSlice(), udp)
	} else {
		frame = ether(from, 0x86dd, []byte{0x60, 0, 0, 0, 0, 8, 17, 64}, addr.AsSlice(), src6.AsSlice(), udp)
	}
	copy(frame, srcMAC)
	return frame
}

func arpFrom(from, sender []byte, addr netip.Addr) []byte {
	return ether(from, 0x806, []byte{0, 1, 8, 0, 6, 4, 0, 2}, sender, addr.AsSlice(), make([]byte, 6), src4.AsSlice())
}

// icmp6 is a frame of ICMPv6 from dstMAC, which nothing here verifies the checksum of.
func icmp6(addr netip.Addr, text ...[]byte) []byte {
	body := bytes.Join(text, nil)
	head := append([]byte{0x60, 0, 0, 0}, binary.BigEndian.AppendUint16(nil, uint16(len(body)))...)
	return ether(dstMAC, 0x86dd, head, []byte{58, 255}, addr.AsSlice(), allNodes6.AsSlice(), body)
}

func option(kind byte, mac []byte) []byte { return append([]byte{kind, 1}, mac...) }

func nd(kind byte, target netip.Addr) []byte {
	return append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice()...)
}

func drops(name string) uint64 {
	if name == "" {
		return 0
	}
	return harnessDrop(name)
}

// What comes from the underlay says nothing of its sender that the tables have otherwise.
func TestSourcesFromTheUnderlay(t *testing.T) {
	b := others(t)
	hopByHop := func(frame []byte) []byte { // in front of ICMPv6
		f := append(bytes.Clone(frame[:54]), 58, 0, 1, 4, 0, 0, 0, 0)
		f = append(f, frame[54:]...)
		f[20] = 0
		binary.BigEndian.PutUint16(f[18:], uint16(len(f)-54))
		return f
	}
	advert := icmp6(dst6, nd(134, netip.IPv6Unspecified()))
	for name, c := range map[string]struct {
		frame []byte
		drop  string // empty: it is delivered
	}{
		"own IPv4":              {ip(dstMAC, dst4), ""},
		"own IPv6":              {ip(dstMAC, dst6), ""},
		"unknown IPv4":          {ip(dstMAC, unknown4), ""},
		"unknown IPv6":          {ip(dstMAC, unknown6), ""},
		"no IPv4":               {ip(dstMAC, netip.IPv4Unspecified()), ""},
		"no IPv6":               {ip(dstMAC, netip.IPv6Unspecified()), ""},
		"another's IPv4":        {ip(dstMAC, other4), "spoofed_ip"},
		"another's IPv6":        {ip(dstMAC, other6), "spoofed_ip"},
		"the other has its own": {ip(otherMAC, other4), ""},
		"another's IPv4 mapped": {ip(dstMAC, netip.AddrFrom16(other4.As16())), "spoofed_ip"},

		"ARP":                          {arpFrom(dstMAC, dstMAC, dst4), ""},
		"ARP of an unknown address":    {arpFrom(dstMAC, dstMAC, unknown4), ""},
		"ARP probe":                    {arpFrom(dstMAC, dstMAC, netip.IPv4Unspecified()), ""},
		"ARP of another's address":     {arpFrom(dstMAC, dstMAC, other4), "spoofed_ip"},
		"ARP of another's MAC address": {arpFrom(dstMAC, otherMAC, dst4), "spoofed_mac"},
		"ARP cut short":                {arpFrom(dstMAC, dstMAC, dst4)[:41], "malformed"},
		"ARP of another kind":          {ether(dstMAC, 0x806, []byte{0, 6, 8, 0, 6, 4}, make([]byte, 22)), "malformed"},

		"solicitation":                        {icmp6(dst6, nd(135, src6), option(1, dstMAC)), ""},
		"solicitation without an address":     {icmp6(netip.IPv6Unspecified(), nd(135, src6)), ""},
		"solicitation of another's address":   {icmp6(other6, nd(135, src6)), "spoofed_ip"},
		"solicitation of another's MAC":       {icmp6(dst6, nd(135, src6), option(1, otherMAC)), "spoofed_mac"},
		"solicitation of two MACs":            {icmp6(dst6, nd(135, src6), option(1, dstMAC), option(1, otherMAC)), "spoofed_mac"},
		"solicitation cut short":              {icmp6(dst6, nd(135, src6)[:20]), "malformed"},
		"advertisement":                       {icmp6(dst6, nd(136, dst6), option(2, dstMAC)), ""},
		"advertisement of an unknown address": {icmp6(dst6, nd(136, unknown6), option(2, dstMAC)), ""},
		"advertisement of another's address":  {icmp6(dst6, nd(136, other6), option(2, dstMAC)), "spoofed_ip"},
		"advertisement of another's MAC":      {icmp6(dst6, nd(136, dst6), option(2, otherMAC)), "spoofed_mac"},
		"advertisement behind an option":      {icmp6(dst6, nd(136, dst6), option(14, otherMAC), option(2, otherMAC)), "spoofed_mac"},
		"advertisement cut short":             {icmp6(dst6, nd(136, dst6)[:23]), "malformed"},

		"router advertisement":                {advert, "router"},
		"router advertisement behind options": {hopByHop(advert), "router"},
		"redirect":                            {icmp6(dst6, nd(137, dst6), src6.AsSlice()), "router"},
		"router solicitation":                 {icmp6(dst6, []byte{133, 0, 0, 0, 0, 0, 0, 0}), "router_solicited"},
		"echo":                                {icmp6(dst6, []byte{128, 0, 0, 0, 0, 0, 0, 0}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			for range 3 { // the first looks it up
				before := drops(c.drop)
				decapExact(b.vtep, 0, packed(c.frame))
				got := b.delivered()
				if c.drop == "" && (len(got) != 1 || !bytes.Equal(got[0], c.frame)) {
					t.Fatalf("not delivered as it is: %x", got)
				}
				if c.drop != "" && (len(got) > 0 || drops(c.drop) != before+1) {
					t.Fatalf("not dropped as %s: %x", c.drop, got)
				}
			}
		})
	}
}

// What a worker remembers of a source ends with a change of the tables.
func TestRememberedSourcesEndWithTheTable(t *testing.T) {
	b := others(t)
	extra4, extra6 := netip.MustParseAddr("10.20.0.99"), netip.MustParseAddr("fd00:20::99")
	expect := func(delivered bool) {
		t.Helper()
		for _, frame := range [][]byte{ip(dstMAC, extra4), ip(dstMAC, extra6), ip(dstMAC, dst4), ip(dstMAC, dst6)} {
			decapExact(b.vtep, 0, packed(frame))
		}
		want := 2
		if delivered {
			want = 4
		}
		if got := b.delivered(); len(got) != want {
			t.Fatalf("%d of 4 delivered: want %d", len(got), want)
		}
	}
	set := func(mac []byte) {
		t.Helper()
		for _, addr := range []netip.Addr{extra4, extra6} {
			if err := SetNeighbour(benchVNI, addr, [6]byte(mac), true); err != nil {
				t.Fatal(err)
			}
		}
	}
	expect(true)
	set(otherMAC)
	expect(false)
	set(dstMAC)
	expect(true)
	set(otherMAC)
	expect(false)
	for _, addr := range []netip.Addr{extra4, extra6} {
		if err := DelNeighbour(benchVNI, addr); err != nil {
			t.Fatal(err)
		}
	}
	expect(true)
}
