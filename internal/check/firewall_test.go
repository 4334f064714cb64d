package check

import (
	"os"
	"testing"

	"github.com/overlane/overlane/internal/testns"
)

func TestRulesOfIptables(t *testing.T) {
	testns.Enter(t)
	says(t, firewall(4789), OK, "no rule that drops UDP port 4789")

	testns.Run(t, "iptables -A FORWARD -p udp --dport 4789 -j DROP", "iptables -N EDGE", "iptables -A FORWARD -j EDGE", "iptables -A EDGE -p udp --dport 4789 -j DROP")
	says(t, firewall(4789), OK, "no rule that drops UDP port 4789")

	testns.Run(t, "iptables -P INPUT DROP")
	says(t, firewall(4789), Warn, "INPUT", "none names VXLAN", "accept UDP port 4789")

	testns.Run(t, "iptables -A INPUT -j EDGE")
	says(t, firewall(4789), Fail, "-A EDGE -p udp -m udp --dport 4789 -j DROP", "remove the rule")

	testns.Run(t, "iptables -F EDGE", "iptables -A EDGE -p udp --dport 4789 -m u32 --u32 '0>>22&0x3C@12&0xFFFFFF00=4096' -j DROP")
	says(t, firewall(4789), Warn, "some VXLAN", "u32", "see that the rule")

	testns.Run(t, "iptables -I INPUT -s 192.0.2.0/24 -p udp --dport 4789 -j ACCEPT")
	says(t, firewall(4789), OK, "which hosts may send", "192.0.2.0/24")
	says(t, firewall(4790), Warn, "none names VXLAN")
}

func TestRulesOfNft(t *testing.T) {
	testns.Enter(t)
	testns.Run(t, `nft 'table inet edge { chain in { type filter hook input priority 0; policy accept; jump more; }; chain more { udp dport { 53, 4789 } counter reject; }; }'`)
	says(t, firewall(4789), Fail, "udp dport { 53, 4789 }", "remove the rule")
	says(t, firewall(4790), OK, "no rule that drops UDP port 4790")

	testns.Run(t, "nft flush ruleset", `nft 'table inet edge { chain out { type filter hook forward priority 0; policy drop; udp dport 4789 drop; }; }'`)
	says(t, firewall(4789), OK, "no rule that drops UDP port 4789")

	testns.Run(t, "nft flush ruleset", `nft 'table inet edge { chain in { type filter hook input priority 0; policy drop; tcp dport 22 accept; }; }'`)
	says(t, firewall(4789), Warn, "inet edge in", "none names VXLAN")
}

func TestNobodyToAsk(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	says(t, firewall(4789), Warn, "could not be told", "neither nft nor iptables")

	refusing := t.TempDir()
	if err := os.WriteFile(refusing+"/iptables", []byte("#!/bin/sh\necho you must be root; exit 4\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", refusing)
	says(t, firewall(4789), Warn, "could not be told", "iptables: exit status 4: you must be root")
}
