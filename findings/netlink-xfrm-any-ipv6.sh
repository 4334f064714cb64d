#!/usr/bin/env bash
# vishvananda/netlink v1.3.1, XfrmPolicyList(FAMILY_ALL): an IPsec policy for all of IPv6 comes back with selectors of IPv4. The selector's
# family is not looked at: prefixes are read as what the caller asked for, and of unspecified family as IPv4 where bytes 4 to 15 are zero,
# which they are of ::/0 and of 2001:db8::/32. So IPNet.Contains says of no IPv6 address that the policy covers it. Listed as FAMILY_V6
# the first one is right, and the second still an IPv4 address.
# Seen: the four lines at the end, with iproute2 6.1 and Linux 6.18, in a network namespace of its own. It needs root.
# Way out: ask by family, and don't decide by the selector of an IPv6 policy.
set -euo pipefail
work=$(mktemp -d)
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT
cd "$work"
cat >go.mod <<'MOD'
module finding

go 1.24

require github.com/vishvananda/netlink v1.3.1
MOD
cat >main.go <<'GO'
package main

import (
	"fmt"
	"log"
	"net"

	"github.com/vishvananda/netlink"
)

func main() {
	for _, family := range []int{netlink.FAMILY_ALL, netlink.FAMILY_V6} {
		policies, err := netlink.XfrmPolicyList(family)
		if err != nil {
			log.Fatal(err)
		}
		for _, p := range policies {
			fmt.Printf("family %d: to %s, covers 2001:db8::1: %v\n", family, p.Dst, p.Dst.Contains(net.ParseIP("2001:db8::1")))
		}
	}
}
GO
GOFLAGS=-mod=mod go mod tidy >/dev/null 2>&1
go build -o finding .
seen=$(unshare --net sh -ec '
	ip xfrm policy add src ::/0 dst ::/0 dir out priority 1 action allow
	ip xfrm policy add src ::/0 dst 2001:db8::/32 dir out priority 2 action allow
	./finding' | sort)
echo "$seen"
[ "$seen" = "family 0: to 0.0.0.0/0, covers 2001:db8::1: false
family 0: to 32.1.13.184/32, covers 2001:db8::1: false
family 10: to 32.1.13.184/32, covers 2001:db8::1: false
family 10: to ::/0, covers 2001:db8::1: true" ]
