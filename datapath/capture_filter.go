package datapath

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
)

// filterWord is what pcap-filter(7) takes for one word; what stands between words are operators.
var filterWord = regexp.MustCompile(`[A-Za-z0-9_.:-]+`)

// filterKeywords are the words of pcap-filter(7) that make sense of an Ethernet frame; names of ICMP types and TCP flags are told by filterNames.
var filterKeywords = func() map[string]bool {
	known := map[string]bool{}
	for word := range strings.FieldsSeq(`host net port portrange src dst gateway ether link ip ip6 arp rarp tcp udp icmp icmp6 igmp pim vrrp carp sctp ah esp
		proto protochain broadcast multicast less greater and or not len vlan mpls mask tcpflags icmptype icmpcode icmp6type icmp6code`) {
		known[word] = true
	}
	return known
}()

var filterNames = regexp.MustCompile(`^(tcp|icmp|icmp6)-[a-z0-9]+$`)

// checkFilter refuses names of hosts, networks, ports and protocols: libpcap would look them up, over the network too, on every host that captures.
func checkFilter(filter string) error {
	for _, word := range filterWord.FindAllString(filter, -1) {
		if filterKeywords[word] || filterNames.MatchString(word) || isNumberOrAddress(word) {
			continue
		}
		return fmt.Errorf("capture: filter %q: %q is neither a number, an address nor a word of tcpdump's filters: names are not looked up here, give an address or a port's number", filter, word)
	}
	return nil
}

func isNumberOrAddress(word string) bool {
	if strings.Trim(word, "0123456789.-:") == "" {
		return true // a number, an IPv4 address or a part of one, a range, a slice of bytes: libpcap says what is wrong with it
	}
	if hex, is := strings.CutPrefix(strings.ToLower(word), "0x"); is && strings.Trim(hex, "0123456789abcdef") == "" {
		return true
	}
	if _, err := netip.ParseAddr(word); err == nil {
		return true
	}
	_, err := net.ParseMAC(word)
	return err == nil
}
