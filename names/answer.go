package names

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

const (
	// ttl is what our answers are good for: the asker is on the same host as the table, and a container may be gone in a second.
	ttl = 0
	// maxUDP is the longest answer by UDP, whatever the asker says it takes. It never leaves lo, whose MTU is far more.
	maxUDP = 4096
	// maxQuery is the longest query: a name has 255 bytes at most, and options are few.
	maxQuery = 4096
)

// verdict is what becomes of a query.
type verdict int

const (
	answered  verdict = iota // from the table
	empty                    // the name is in the table, and has no record of that type
	forwarded                // to Docker's server
	malformed                // no query: dropped
)

// answer answers a query from the table, for a container on these networks. A nil answer goes with forwarded and malformed. Like Docker's
// server it vouches for no more than that recursion is available.
func (t *Table) answer(query []byte, networks []string, tcp bool) (answer []byte, v verdict, question dns.Question) {
	var q dns.Msg
	if err := q.Unpack(query); err != nil || q.Response {
		return nil, malformed, question
	}
	if len(q.Question) != 1 || q.Opcode != dns.OpcodeQuery || q.Question[0].Qclass != dns.ClassINET {
		return nil, forwarded, question
	}
	question = q.Question[0]
	records, found := t.records(networks, question)
	if !found {
		return nil, forwarded, question
	}
	var a dns.Msg
	a.SetReply(&q)
	a.RecursionAvailable = true
	a.Compress = true
	a.Answer = records
	size := dns.MaxMsgSize
	if opt := q.IsEdns0(); opt != nil {
		a.SetEdns0(maxUDP, false)
		if opt.Version() != 0 {
			a.Rcode, a.Answer = dns.RcodeBadVers, nil
		}
		size = min(max(int(opt.UDPSize()), dns.MinMsgSize), maxUDP)
	} else {
		size = dns.MinMsgSize
	}
	if tcp {
		size = dns.MaxMsgSize
	}
	a.Truncate(size)
	packed, err := a.Pack()
	if err != nil {
		return nil, malformed, question
	}
	if len(a.Answer) == 0 {
		return packed, empty, question
	}
	return packed, answered, question
}

// records gives those that answer a question, in random order; found: the name is ours, though it may have none of that type.
func (t *Table) records(networks []string, q dns.Question) (records []dns.RR, found bool) {
	name := strings.TrimSuffix(q.Name, ".")
	if addr, is := reverseAddr(name); is {
		host, found := t.reverse(networks, addr)
		if found && (q.Qtype == dns.TypePTR || q.Qtype == dns.TypeANY) {
			records = append(records, &dns.PTR{Hdr: header(q.Name, dns.TypePTR), Ptr: dns.Fqdn(host)})
		}
		return records, found
	}
	addrs, _, found := t.Lookup(networks, name)
	for _, addr := range addrs {
		switch {
		case addr.Is4() && (q.Qtype == dns.TypeA || q.Qtype == dns.TypeANY):
			records = append(records, &dns.A{Hdr: header(q.Name, dns.TypeA), A: addr.AsSlice()})
		case addr.Is6() && (q.Qtype == dns.TypeAAAA || q.Qtype == dns.TypeANY):
			records = append(records, &dns.AAAA{Hdr: header(q.Name, dns.TypeAAAA), AAAA: addr.AsSlice()})
		}
	}
	rand.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	return records, found
}

func header(name string, rtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rtype, Class: dns.ClassINET, Ttl: ttl}
}

// reverseAddr is the address that a name of in-addr.arpa or ip6.arpa stands for (RFC 1035 section 3.5, RFC 3596 section 2.5).
func reverseAddr(name string) (addr netip.Addr, is bool) {
	name = lower(name)
	if v4, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		p := strings.Split(v4, ".")
		if len(p) != 4 {
			return addr, false
		}
		addr, err := netip.ParseAddr(p[3] + "." + p[2] + "." + p[1] + "." + p[0])
		return addr, err == nil
	}
	v6, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(v6) != 63 {
		return addr, false
	}
	var text strings.Builder
	for i := 62; i >= 0; i -= 2 {
		text.WriteByte(v6[i])
		if i%8 == 0 && i > 0 {
			text.WriteByte(':')
		}
		if i > 0 && v6[i-1] != '.' {
			return addr, false
		}
	}
	addr, err := netip.ParseAddr(text.String())
	return addr, err == nil && addr.Is6()
}

// headerLen is that of a DNS message, and flags and counts within (RFC 1035 section 4.1.1).
const (
	headerLen = 12
	atRcode   = 3
	atAsked   = 4
	atAnswers = 6
	atOthers  = 8
)

// isNegative says whether an answer says that there is none.
func isNegative(answer []byte) bool {
	if len(answer) < headerLen || binary.BigEndian.Uint16(answer[atAsked:]) != 1 || binary.BigEndian.Uint16(answer[atAnswers:]) != 0 {
		return false
	}
	rcode := int(answer[atRcode] & 0xf)
	return rcode == dns.RcodeNameError || rcode == dns.RcodeSuccess
}

// unlasting takes from a negative answer what says how long it is good for, the SOA record in its authority section (RFC 2308 section 5):
// a container of that name may start any moment. What it can't read it leaves.
func unlasting(answer []byte) []byte {
	if !isNegative(answer) {
		return answer
	}
	end := headerLen
	for end < len(answer) && answer[end] != 0 {
		if answer[end] > 63 {
			return answer // compressed: no question is
		}
		end += 1 + int(answer[end])
	}
	end += 1 + 4 // root, type and class
	if end > len(answer) {
		return answer
	}
	clear(answer[atOthers:headerLen])
	return answer[:end]
}
