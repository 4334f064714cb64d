// Package prefix is the arithmetic of a pool's subnets: which are fit to be one, and which of their addresses hosts may have.
package prefix

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// The longest prefixes of a pool: room for a gateway and a container beside what no host may have.
const (
	maxBits4 = 30 // the network's and the broadcast address: RFC 1122 section 3.2.1.3
	maxBits6 = 126
)

// Addresses are counted from the subnet's first one. Of a subnet with more only so many are given out.
const MaxOffset = 1<<63 - 1

// Check says what is wrong with a pool: subnet and, where valid, the range in it from which this host gives out
// addresses.
func Check(subnet, within netip.Prefix) error {
	longest := maxBits4
	if subnet.Addr().Is6() {
		longest = maxBits6
	}
	switch {
	case subnet.Masked() != subnet:
		return fmt.Errorf("subnet %s: has bits set in its host part: did you mean %s?", subnet, subnet.Masked())
	case subnet.Bits() > longest:
		return fmt.Errorf("subnet %s: is too small for a gateway and a container: give one of at most %d bits", subnet, longest)
	case subnet.Addr().Is4In6() || subnet.Bits() == 0 || subnet.Addr().IsMulticast() || subnet.Addr().IsLoopback():
		return fmt.Errorf("subnet %s: hosts can't have addresses of it: give one such as 10.20.0.0/16 or fd00:20::/64", subnet)
	case !within.IsValid():
		return nil
	case within.Masked() != within:
		return fmt.Errorf("ip-range %s: has bits set in its host part: did you mean %s?", within, within.Masked())
	case within.Addr().Is4() != subnet.Addr().Is4():
		return fmt.Errorf("ip-range %s: is of another family than subnet %s: give one within it", within, subnet)
	case within.Bits() < subnet.Bits() || !subnet.Contains(within.Addr()):
		return fmt.Errorf("ip-range %s: lies outside subnet %s: give one within it", within, subnet)
	}
	if lo, hi := BoundsWithin(subnet, within); lo > hi {
		return fmt.Errorf("ip-range %s: has no address of subnet %s that a container may have: give a larger one", within, subnet)
	}
	return nil
}

// Bounds are the first and last offset of a subnet that a host may have.
func Bounds(subnet netip.Prefix) (lo, hi uint64) {
	host := subnet.Addr().BitLen() - subnet.Bits()
	if host >= 63 {
		return 1, MaxOffset
	}
	if subnet.Addr().Is4() {
		return 1, 1<<host - 2
	}
	return 1, 1<<host - 1 // offset 0 is the routers' anycast address: RFC 4291 section 2.6.1
}

// BoundsWithin are those of the addresses in a range of the subnet.
func BoundsWithin(subnet, within netip.Prefix) (lo, hi uint64) {
	lo, hi = Bounds(subnet)
	if !within.IsValid() {
		return lo, hi
	}
	first, err := Offset(subnet, within.Addr())
	if err != nil {
		return hi + 1, hi // beyond what is given out
	}
	last := uint64(MaxOffset)
	if host := within.Addr().BitLen() - within.Bits(); host < 63 {
		last = min(last, first+1<<host-1)
	}
	return max(lo, first), min(hi, last)
}

// Offset counts from the subnet's first address.
func Offset(subnet netip.Prefix, addr netip.Addr) (uint64, error) {
	if !subnet.Contains(addr) {
		return 0, fmt.Errorf("address %s: lies outside subnet %s", addr, subnet)
	}
	base, a := subnet.Addr().As16(), addr.As16()
	if [8]byte(base[:8]) != [8]byte(a[:8]) || a[8]&0x80 != base[8]&0x80 {
		return 0, fmt.Errorf("address %s: is not among the first 2^63 of subnet %s, which alone are given out", addr, subnet)
	}
	return binary.BigEndian.Uint64(a[8:]) - binary.BigEndian.Uint64(base[8:]), nil
}

// Address is the one at an offset.
func Address(subnet netip.Prefix, offset uint64) netip.Addr {
	a := subnet.Addr().As16()
	binary.BigEndian.PutUint64(a[8:], binary.BigEndian.Uint64(a[8:])+offset)
	addr := netip.AddrFrom16(a)
	if subnet.Addr().Is4() {
		return addr.Unmap()
	}
	return addr
}
