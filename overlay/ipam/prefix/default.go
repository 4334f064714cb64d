package prefix

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"strings"
)

// DefaultPool is where subnets are taken from that nobody named: Base is cut into prefixes of Bits bits.
type DefaultPool struct {
	Base netip.Prefix
	Bits int
}

// ParseDefaultPools reads a list such as 10.208.0.0/12:20,fd6f:7665:726c::/48:64.
func ParseDefaultPools(text string) ([]DefaultPool, error) {
	var pools []DefaultPool
	for part := range strings.SplitSeq(text, ",") {
		at := strings.LastIndexByte(part, ':')
		if at < 0 {
			return nil, fmt.Errorf("%q: want a prefix and the bits of a subnet, such as 10.208.0.0/12:20", part)
		}
		var p DefaultPool
		base, err := netip.ParsePrefix(part[:at])
		if err == nil {
			_, err = fmt.Sscanf(part[at+1:], "%d", &p.Bits)
		}
		if err != nil || base.Masked() != base || p.Bits < base.Bits() || p.Bits-base.Bits() > 24 {
			return nil, fmt.Errorf("%q: want a prefix and the bits of a subnet, such as 10.208.0.0/12:20", part)
		}
		if err := Check(netip.PrefixFrom(base.Addr(), p.Bits), netip.Prefix{}); err != nil {
			return nil, fmt.Errorf("%q: %w", part, err)
		}
		p.Base = base
		pools = append(pools, p)
	}
	return pools, nil
}

// Choose finds a subnet for a network: the first that is free, from where the network's key points to, so that hosts
// which choose at the same time choose alike.
func Choose(pools []DefaultPool, key string, v6 bool, taken func(netip.Prefix) bool) (netip.Prefix, error) {
	hash := fnv.New64a()
	hash.Write([]byte(key))
	var tried []string
	for _, p := range pools {
		if p.Base.Addr().Is6() != v6 {
			continue
		}
		tried = append(tried, p.Base.String())
		n := uint64(1) << (p.Bits - p.Base.Bits())
		for i := range n {
			subnet := p.Subnet((hash.Sum64() + i) % n)
			if !taken(subnet) {
				return subnet, nil
			}
		}
	}
	return netip.Prefix{}, fmt.Errorf("subnet: none is free in the default pools %v: give --subnet, or the daemon other --default-pools", tried)
}

// Subnet is the i-th of the pool.
func (p DefaultPool) Subnet(i uint64) netip.Prefix {
	a := p.Base.Addr().AsSlice()
	shift := len(a)*8 - p.Bits
	for at := len(a) - 1 - shift/8; at >= 0 && i != 0; at-- {
		b := i << (shift % 8)
		a[at] |= byte(b)
		i = b >> 8 >> (shift % 8)
	}
	addr, _ := netip.AddrFromSlice(a)
	return netip.PrefixFrom(addr, p.Bits)
}
