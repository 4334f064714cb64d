package prefix

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func prefix(text string) netip.Prefix {
	if text == "" {
		return netip.Prefix{}
	}
	return netip.MustParsePrefix(text)
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct{ subnet, within, want string }{
		{"10.20.0.0/16", "", ""},
		{"10.20.0.0/30", "", ""},
		{"10.20.0.0/31", "", "subnet 10.20.0.0/31: is too small for a gateway and a container: give one of at most 30 bits"},
		{"10.20.0.0/32", "", "subnet 10.20.0.0/32: is too small"},
		{"fd00:20::/126", "", ""},
		{"fd00:20::/127", "", "subnet fd00:20::/127: is too small for a gateway and a container: give one of at most 126 bits"},
		{"10.20.0.1/16", "", "subnet 10.20.0.1/16: has bits set in its host part: did you mean 10.20.0.0/16?"},
		{"fd00:20::1/64", "", "subnet fd00:20::1/64: has bits set in its host part: did you mean fd00:20::/64?"},
		{"0.0.0.0/0", "", "subnet 0.0.0.0/0: hosts can't have addresses of it"},
		{"::/0", "", "subnet ::/0: hosts can't have addresses of it"},
		{"224.0.0.0/24", "", "subnet 224.0.0.0/24: hosts can't have addresses of it"},
		{"ff02::/64", "", "subnet ff02::/64: hosts can't have addresses of it"},
		{"127.0.0.0/8", "", "subnet 127.0.0.0/8: hosts can't have addresses of it"},
		{"::ffff:10.20.0.0/112", "", "hosts can't have addresses of it"},
		{"10.20.0.0/16", "10.20.3.0/24", ""},
		{"10.20.0.0/16", "10.20.0.0/16", ""},
		{"10.20.0.0/16", "10.20.3.1/24", "ip-range 10.20.3.1/24: has bits set in its host part: did you mean 10.20.3.0/24?"},
		{"10.20.0.0/16", "10.21.0.0/24", "ip-range 10.21.0.0/24: lies outside subnet 10.20.0.0/16: give one within it"},
		{"10.20.0.0/16", "10.0.0.0/8", "ip-range 10.0.0.0/8: lies outside subnet 10.20.0.0/16: give one within it"},
		{"10.20.0.0/16", "fd00::/80", "ip-range fd00::/80: is of another family than subnet 10.20.0.0/16: give one within it"},
		{"10.20.0.0/16", "10.20.0.0/32", "ip-range 10.20.0.0/32: has no address of subnet 10.20.0.0/16 that a container may have: give a larger one"},
		{"10.20.0.0/16", "10.20.255.255/32", "ip-range 10.20.255.255/32: has no address"},
		{"10.20.0.0/16", "10.20.0.1/32", ""},
		{"fd00:20::/48", "fd00:20:0:1::/64", "ip-range fd00:20:0:1::/64: has no address"}, // beyond the first 2^63
		{"fd00:20::/64", "fd00:20::1:0/112", ""},
	} {
		err := Check(prefix(tt.subnet), prefix(tt.within))
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("subnet %s, range %s: %v", tt.subnet, tt.within, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("subnet %s, range %s: error %v, want %q", tt.subnet, tt.within, err, tt.want)
		}
	}
}

func TestBounds(t *testing.T) {
	for _, tt := range []struct{ subnet, within, first, last string }{
		{"10.20.0.0/24", "", "10.20.0.1", "10.20.0.254"},
		{"10.20.0.0/30", "", "10.20.0.1", "10.20.0.2"},
		{"10.20.0.0/24", "10.20.0.0/25", "10.20.0.1", "10.20.0.127"},
		{"10.20.0.0/24", "10.20.0.128/25", "10.20.0.128", "10.20.0.254"},
		{"10.0.0.0/8", "10.255.255.0/24", "10.255.255.0", "10.255.255.254"},
		{"fd00:20::/120", "", "fd00:20::1", "fd00:20::ff"},
		{"fd00:20::/64", "", "fd00:20::1", "fd00:20::7fff:ffff:ffff:ffff"},
		{"fd00:20::/64", "fd00:20::ff00/120", "fd00:20::ff00", "fd00:20::ffff"},
	} {
		subnet := prefix(tt.subnet)
		lo, hi := BoundsWithin(subnet, prefix(tt.within))
		if first, last := Address(subnet, lo), Address(subnet, hi); first.String() != tt.first || last.String() != tt.last {
			t.Errorf("subnet %s, range %s: from %s to %s, want %s to %s", tt.subnet, tt.within, first, last, tt.first, tt.last)
		}
	}
}

// Every offset that is given out is an address of the subnet, and its own.
func TestOffset(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		subnet := prefix(rapid.SampledFrom([]string{"10.20.0.0/30", "10.20.0.0/16", "10.0.0.0/8", "fd00:20::/126", "fd00:20::/64", "fd00:20::/48"}).Draw(t, "subnet"))
		lo, hi := Bounds(subnet)
		at := rapid.Uint64Range(lo, hi).Draw(t, "offset")
		addr := Address(subnet, at)
		if got, err := Offset(subnet, addr); err != nil || got != at || !subnet.Contains(addr) {
			t.Fatalf("offset %d of %s is %s, whose offset is %d (%v)", at, subnet, addr, got, err)
		}
	})
	for _, addr := range []string{"10.20.1.0", "fd00:20::1", "fd00:21::1"} {
		if _, err := Offset(prefix("10.20.0.0/24"), netip.MustParseAddr(addr)); err == nil {
			t.Errorf("%s has an offset in 10.20.0.0/24", addr)
		}
	}
	if _, err := Offset(prefix("fd00:20::/64"), netip.MustParseAddr("fd00:20::8000:0:0:0")); err == nil {
		t.Error("an address beyond the first 2^63 of a subnet has an offset")
	}
}
