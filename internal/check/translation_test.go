package check

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/overlane/overlane/internal/testns"
)

// Rules that rewrite the source of VXLAN, and some that do not. The VTEP's address is the second one of its interface.
func TestRulesThatRewriteTheSource(t *testing.T) {
	for name, tc := range map[string]struct {
		rules string
		want  []string
	}{
		"broad MASQUERADE":     {"iptables -t nat -A POSTROUTING -o wire -j MASQUERADE", []string{"-A POSTROUTING -o wire -j MASQUERADE"}},
		"SNAT in a chain":      {"iptables -t nat -N EGRESS && iptables -t nat -A POSTROUTING -j EGRESS && iptables -t nat -A EGRESS -j SNAT --to-source 192.0.2.1", []string{"-A EGRESS -j SNAT --to-source 192.0.2.1"}},
		"nft's masquerade":     {`nft 'table ip edge { chain out { type nat hook postrouting priority 100; oifname "wire" masquerade; }; }'`, []string{`oifname "wire" masquerade`, "udp dport != 4789"}},
		"containers' alone":    {"iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE", nil},
		"with VXLAN kept out":  {"iptables -t nat -A POSTROUTING -o wire -j MASQUERADE && iptables -t nat -I POSTROUTING -p udp --dport 4789 -j ACCEPT", nil},
		"to the same address":  {"iptables -t nat -A POSTROUTING -o wire -j SNAT --to-source 192.0.2.5", nil},
		"nothing is rewritten": {"true", nil},
	} {
		t.Run(name, func(t *testing.T) {
			testns.Enter(t)
			testns.Run(t, "ip link add wire type veth peer name far", "ip link set wire up", "ip link set far up",
				"ip addr add 192.0.2.1/24 dev wire", "ip addr add 192.0.2.5/24 dev wire", "ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev wire", tc.rules)
			c := Config{VTEP: netip.MustParseAddr("192.0.2.5"), Peers: []Peer{{Name: "host2", VTEP: netip.MustParseAddrPort("192.0.2.2:4789")}}}
			var found *Result
			for _, r := range vxlan(c) {
				if strings.HasPrefix(r.Check, "source") {
					found = &r
				}
			}
			switch {
			case found == nil && tc.want != nil:
				t.Errorf("nothing is said, want %q", tc.want)
			case found != nil && tc.want == nil:
				t.Errorf("%+v, and nothing is wrong", *found)
			case found != nil:
				says(t, *found, Fail, append(tc.want, "192.0.2.2:4789 from 192.0.2.5 to 192.0.2.1", "--dport 4789 -j ACCEPT", "conntrack -D")...)
			}
		})
	}
}
