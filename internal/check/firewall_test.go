package check

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/internal/testns"
)

func TestRulesOfIptables(t *testing.T) {
	testns.Enter(t)
	says(t, firewall("firewall", vxlanTo(4789)), OK, "no rule that drops UDP port 4789")

	testns.Run(t, "iptables -A FORWARD -p udp --dport 4789 -j DROP", "iptables -N EDGE", "iptables -A FORWARD -j EDGE", "iptables -A EDGE -p udp --dport 4789 -j DROP")
	says(t, firewall("firewall", vxlanTo(4789)), OK, "no rule that drops UDP port 4789")

	testns.Run(t, "iptables -P INPUT DROP")
	says(t, firewall("firewall", vxlanTo(4789)), Warn, "INPUT", "none names VXLAN", "accept UDP port 4789")

	testns.Run(t, "iptables -A INPUT -j EDGE")
	says(t, firewall("firewall", vxlanTo(4789)), Fail, "-A EDGE -p udp -m udp --dport 4789 -j DROP", "remove the rule")

	testns.Run(t, "iptables -F EDGE", "iptables -A EDGE -p udp --dport 4789 -m u32 --u32 '0>>22&0x3C@12&0xFFFFFF00=4096' -j DROP")
	says(t, firewall("firewall", vxlanTo(4789)), Warn, "some VXLAN", "u32", "see that the rule")

	testns.Run(t, "iptables -I INPUT -s 192.0.2.0/24 -p udp --dport 4789 -j ACCEPT")
	says(t, firewall("firewall", vxlanTo(4789)), OK, "which hosts may send", "192.0.2.0/24")
	says(t, firewall("firewall", vxlanTo(4790)), Warn, "none names VXLAN")
}

func TestRulesOfNft(t *testing.T) {
	testns.Enter(t)
	testns.Run(t, `nft 'table inet edge { chain in { type filter hook input priority 0; policy accept; jump more; }; chain more { udp dport { 53, 4789 } counter reject; }; }'`)
	says(t, firewall("firewall", vxlanTo(4789)), Fail, "udp dport { 53, 4789 }", "remove the rule")
	says(t, firewall("firewall", vxlanTo(4790)), OK, "no rule that drops UDP port 4790")

	testns.Run(t, "nft flush ruleset", `nft 'table inet edge { chain out { type filter hook forward priority 0; policy drop; udp dport 4789 drop; }; }'`)
	says(t, firewall("firewall", vxlanTo(4789)), OK, "no rule that drops UDP port 4789")

	testns.Run(t, "nft flush ruleset", `nft 'table inet edge { chain in { type filter hook input priority 0; policy drop; tcp dport 22 accept; }; }'`)
	says(t, firewall("firewall", vxlanTo(4789)), Warn, "inet edge in", "none names VXLAN")
}

// A chain is closed by a last rule as well as by its policy.
func TestRulesThatDropTheRest(t *testing.T) {
	for rules, want := range map[string]State{
		"iptables -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT; iptables -A INPUT -p tcp --dport 22 -j ACCEPT; iptables -A INPUT -j REJECT --reject-with icmp-host-prohibited": Warn,
		"iptables -A INPUT -p udp -j DROP":                                      Warn,
		"iptables -N REST; iptables -A INPUT -g REST; iptables -A REST -j DROP": Warn,
		"ip6tables -A INPUT -j REJECT":                                          Warn,
		"nft 'add table inet f; add chain inet f in { type filter hook input priority 10; }; add rule inet f in ct state established accept; add rule inet f in reject with icmpx admin-prohibited'": Warn,
		"iptables -A INPUT -p udp --dport 4789 -j ACCEPT; iptables -A INPUT -j DROP":                                                                                                                 OK,
		"iptables -A INPUT -p tcp -j DROP":                                          OK,
		"iptables -A INPUT -p udp --dport 53 -j DROP":                               OK,
		"iptables -A INPUT -i eth1 -j DROP; iptables -A INPUT -s 192.0.2.9 -j DROP": OK,
		"iptables -A INPUT -m conntrack --ctstate INVALID -j DROP":                  OK,
		// As of ufw, whose default is to let in.
		"iptables -N local; iptables -N in; iptables -A INPUT -j in; iptables -A in -j local; iptables -A local -m addrtype --dst-type LOCAL -j RETURN; iptables -A local -j DROP": OK,
		"iptables -A INPUT -j ACCEPT; iptables -A INPUT -j DROP":                                   OK,
		"iptables -A FORWARD -j DROP":                                                              OK,
		"iptables -N BANNED; iptables -A INPUT -s 192.0.2.9 -j BANNED; iptables -A BANNED -j DROP": OK,
		"nft 'add table inet f; add chain inet f in { type filter hook input priority 10; }; add rule inet f in iifname eth1 drop; add rule inet f in ct state invalid drop'": OK,
	} {
		t.Run(rules, func(t *testing.T) {
			testns.Enter(t)
			testns.Run(t, rules)
			seen := map[State][]string{OK: {}, Warn: {"none names VXLAN", "accept UDP port 4789"}}[want]
			says(t, firewall("firewall", vxlanTo(4789)), want, seen...)
		})
	}
}

// Gossip takes both protocols, each with a line of its own.
func TestRulesAboutGossip(t *testing.T) {
	for rule, want := range map[string][2]State{
		"-p udp --dport 7950 -j DROP": {Fail, OK}, "-p tcp --dport 7950 -j REJECT": {OK, Fail}, "-p tcp -m multiport --dports 22,7950 -j DROP": {OK, Fail},
		"-s 192.0.2.9 -p tcp --dport 7950 -j DROP": {OK, Warn}, "-p udp --dport 4789 -j DROP": {OK, OK}, "-p tcp --dport 7951 -j DROP": {OK, OK},
	} {
		t.Run(rule, func(t *testing.T) {
			testns.Enter(t)
			testns.Run(t, "iptables -A INPUT "+rule)
			for i, r := range firewalls(4789, 7950)[1:] {
				says(t, r, want[i], map[State][]string{OK: {"no rule that drops"}, Warn: {"some gossip", "7950"}, Fail: {"drops gossip", "7950"}}[want[i]]...)
			}
		})
	}
	testns.Enter(t)
	testns.Run(t, "iptables -P INPUT DROP", "iptables -A INPUT -p udp --dport 7950 -j ACCEPT")
	says(t, firewalls(4789, 7950)[1], OK)
	says(t, firewalls(4789, 7950)[2], Warn, "none names gossip", "accept TCP port 7950")
}

func TestPortsOfNft(t *testing.T) {
	for rules, want := range map[string]State{
		"udp dport 4000-5000 drop":         Fail,
		"udp dport { 53, 4000-5000 } drop": Fail,
		"udp dport @blocked drop":          Fail,
		"udp dport != 53 drop":             Fail,
		"meta l4proto { tcp, udp } th dport vmap { 22 : accept, 4789 : drop }": Fail,
		"udp dport vmap { 53 : accept, 4000-5000 : jump more }":                Fail,
		"meta l4proto vmap { tcp : accept, udp : jump more }":                  Fail,
		"iifname vmap { eth0 : jump more }":                                    Fail,
		"ip saddr 192.0.2.9 udp dport 4789 drop":                               Warn,
		"meta l4proto . th dport { udp . 4789 } drop":                          OK, // fields side by side are not looked into
		"udp dport 4790-5000 drop":                                             OK,
		"udp dport { 53, 4790-5000 } drop":                                     OK,
		"udp dport != { 53, 4789 } drop":                                       OK,
		"udp dport vmap { 4789 : accept, 53 : drop }":                          OK,
		"tcp dport 4789 drop":                                                  OK,
		"meta l4proto tcp jump more":                                           OK,
		"udp sport 4789 drop":                                                  OK,
	} {
		t.Run(rules, func(t *testing.T) {
			testns.Enter(t)
			testns.Run(t, "nft 'table inet edge { set blocked { type inet_service; flags interval; elements = { 53, 4700-4800 }; }; chain more { udp dport 4789 drop; }; chain in { type filter hook input priority 0; "+rules+"; }; }'")
			says(t, firewall("firewall", vxlanTo(4789)), want)
		})
	}
}

func TestNobodyToAsk(t *testing.T) {
	testns.Enter(t)
	testns.Run(t, "nft 'table inet edge { chain in { type filter hook input priority 0; udp dport 4789 drop; }; }'")
	t.Setenv("PATH", t.TempDir())
	says(t, firewall("firewall", vxlanTo(4789)), Fail, "the rule with handle 2 in chain inet edge in")

	withoutNetAdmin(t)
	says(t, firewall("firewall", vxlanTo(4789)), Warn, "could not be told", "nftables: ", "operation not permitted")

	refusing := t.TempDir()
	if err := os.WriteFile(refusing+"/iptables", []byte("#!/bin/sh\necho you must be root; exit 4\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", refusing)
	says(t, firewall("firewall", vxlanTo(4789)), Warn, "could not be told", "iptables: exit status 4: you must be root")
}

// withoutNetAdmin takes the capability from the test's thread, on which testns.Enter keeps it, until the test ends.
func withoutNetAdmin(t *testing.T) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var before [2]unix.CapUserData
	if err := unix.Capget(&header, &before[0]); err != nil {
		t.Fatal(err)
	}
	reduced := before
	reduced[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	if err := unix.Capset(&header, &reduced[0]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Capset(&header, &before[0]); err != nil {
			t.Fatal(err)
		}
	})
}
