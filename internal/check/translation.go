package check

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// Other hosts take VXLAN from the VTEP addresses that were announced. A rule of this host's that rewrites the source, such as
// a broad MASQUERADE, has them drop all of it, as vtep_unknown.

// Translated gives, by VTEP, the address from which packets from this host's own VTEP address to it leave, where that is another.
// It reads what connection tracking knows of packets that have been sent (linux/netfilter/nfnetlink_conntrack.h).
func Translated(own netip.Addr, to []netip.AddrPort) (map[netip.AddrPort]netip.Addr, error) {
	family := netlink.FAMILY_V4
	if own.Is6() {
		family = netlink.FAMILY_V6
	}
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.InetFamily(family))
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("read the kernel's connection tracking: %w", err)
	}
	wanted := map[netip.AddrPort]bool{}
	for _, at := range to {
		wanted[at] = true
	}
	found := map[netip.AddrPort]netip.Addr{}
	for _, f := range flows {
		from, _ := netipx.FromStdIP(f.Forward.SrcIP)
		dst, _ := netipx.FromStdIP(f.Forward.DstIP)
		back, _ := netipx.FromStdIP(f.Reverse.DstIP)
		at := netip.AddrPortFrom(dst, f.Forward.DstPort)
		if f.Forward.Protocol == unix.IPPROTO_UDP && from == own && back != own && wanted[at] {
			found[at] = back
		}
	}
	return found, nil
}

// TranslationText says what rewrites the source of what this host sends to a VTEP, and the cure.
func TranslationText(own netip.Addr, to netip.AddrPort, as netip.Addr) (seen, cure string) {
	rules := "a rule that was not found"
	if all := sourceRules(own); len(all) > 0 {
		rules = strings.Join(all, "; ")
	}
	command := "iptables"
	if own.Is6() {
		command = "ip6tables"
	}
	return fmt.Sprintf("this host rewrites the source of what it sends to %s from %s to %s, where it is dropped as vtep_unknown: %s", to, own, as, rules),
		fmt.Sprintf("keep VXLAN out of the rule: `%s -t nat -I POSTROUTING -p udp --dport %d -j ACCEPT`, or in nft `udp dport != %[2]d`; then `conntrack -D -p udp --dport %[2]d`", command, to.Port())
}

// translations looks at what was just sent to the peers.
func translations(c Config) []Result {
	var to []netip.AddrPort
	for _, p := range c.Peers {
		to = append(to, p.VTEP)
	}
	found, err := Translated(c.VTEP, to)
	if err != nil {
		return nil // nothing is tracked, and so nothing translated
	}
	var results []Result
	for _, p := range c.Peers {
		if as, is := found[p.VTEP]; is {
			seen, cure := TranslationText(c.VTEP, p.VTEP, as)
			results = append(results, Result{"source towards " + p.Name, Fail, seen, cure})
		}
	}
	return results
}

var (
	rewrites   = regexp.MustCompile(` -j (MASQUERADE|SNAT)\b`)
	fromPrefix = regexp.MustCompile(`(! )?-s (\S+)`)
	ofAnother  = regexp.MustCompile(` -p (tcp|icmp|sctp|\d+)\b`)
)

// sourceRules are the rules that may rewrite the source of what leaves from an address, as iptables or nft write them.
func sourceRules(own netip.Addr) []string {
	command := "iptables"
	if own.Is6() {
		command = "ip6tables"
	}
	var rules []string
	out, _ := exec.Command(command, "-t", "nat", "-S").Output() // without iptables it has no rules
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if rewrites.MatchString(line) && !ofAnother.MatchString(line) && mayBeFrom(line, own) {
			rules = append(rules, command+" -t nat "+line)
		}
	}
	return append(rules, nftSourceRules()...)
}

// mayBeFrom says whether a rule's condition on the source lets an address pass.
func mayBeFrom(line string, own netip.Addr) bool {
	m := fromPrefix.FindStringSubmatch(line)
	if m == nil {
		return true
	}
	prefix, err := netip.ParsePrefix(m[2])
	return err != nil || prefix.Contains(own) == (m[1] == "")
}

// nftSourceRules are nft's own; those of iptables are extensions to it.
func nftSourceRules() (rules []string) {
	conn, err := nftables.New()
	if err != nil {
		return nil
	}
	chains, _ := conn.ListChains()
	for _, c := range chains {
		if c.Type != nftables.ChainTypeNAT || c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookPostrouting {
			continue
		}
		all, _ := conn.GetRules(c.Table, c)
		for _, r := range all {
			for _, e := range r.Exprs {
				nat, isNAT := e.(*expr.NAT)
				if _, masquerades := e.(*expr.Masq); masquerades || isNAT && nat.Type == expr.NATTypeSourceNAT {
					rules = append(rules, describe(c, r.Handle))
				}
			}
		}
	}
	return rules
}

// dialFrom opens a socket to a VTEP that sends as the daemon does: from this host's VTEP address, where the host has it.
func dialFrom(own netip.Addr, to netip.AddrPort) (net.Conn, error) {
	conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(own, 0)), net.UDPAddrFromAddrPort(to))
	if errors.Is(err, unix.EADDRNOTAVAIL) || !own.IsValid() {
		return net.Dial("udp", to.String())
	}
	return conn, err
}
