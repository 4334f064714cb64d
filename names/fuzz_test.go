package names

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// FuzzAnswer looks for queries that our answers break on: what we answer is an answer to that, and fits where it is to go.
func FuzzAnswer(f *testing.F) {
	table := NewTable()
	table.Call(app, "app")
	for i := range byte(200) {
		id := ID{MAC: [6]byte{2, i}}
		table.Name(app, id, []string{"db", "store.v2"})
		table.Address(app, netip.AddrFrom4([4]byte{10, 20, 0, i}), id)
		table.Address(app, netip.AddrFrom16([16]byte{0: 0xfd, 15: i}), id)
	}
	for _, question := range []struct {
		name  string
		rtype uint16
	}{{"db.", dns.TypeA}, {"DB.app.", dns.TypeAAAA}, {"store.v2.", dns.TypeANY}, {"2.0.20.10.in-addr.arpa.", dns.TypePTR}, {"nobody.", dns.TypeA}} {
		q := new(dns.Msg).SetQuestion(question.name, question.rtype)
		plain, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		q.SetEdns0(1232, true)
		edns, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(plain, false)
		f.Add(edns, true)
	}
	f.Fuzz(func(t *testing.T, query []byte, tcp bool) {
		answer, v, question := table.answer(query, []string{app}, tcp)
		if (answer == nil) != (v == forwarded || v == malformed) {
			t.Fatalf("verdict %v with %d bytes of answer", v, len(answer))
		}
		table.may([]string{app}, question.Name)
		if answer == nil {
			return
		}
		var q, a dns.Msg
		if err := q.Unpack(query); err != nil {
			t.Fatal(err)
		}
		if err := a.Unpack(answer); err != nil {
			t.Fatalf("our answer is none: %v", err)
		}
		size := dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = min(max(size, int(opt.UDPSize())), maxUDP)
		}
		if !a.Response || a.Id != q.Id || len(a.Question) != 1 || a.Question[0] != q.Question[0] {
			t.Errorf("%v is no answer to %v", &a, &q)
		}
		if !tcp && len(answer) > size {
			t.Errorf("%d bytes by UDP, at most %d fit", len(answer), size)
		}
	})
}

// FuzzUnlasting looks for answers of Docker's server on which it breaks.
func FuzzUnlasting(f *testing.F) {
	m := new(dns.Msg).SetQuestion("nobody.", dns.TypeA)
	m.Response, m.Rcode = true, dns.RcodeNameError
	m.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 86400}, Ns: "a.", Mbox: "b."}}
	seed, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, answer []byte) {
		var before, after dns.Msg
		wasMessage := before.Unpack(answer) == nil
		left := unlasting(append([]byte(nil), answer...))
		if !wasMessage || len(before.Question) != 1 {
			return
		}
		if err := after.Unpack(left); err != nil {
			t.Fatalf("what is left is no message: %v", err)
		}
		if after.Rcode&0xf != before.Rcode&0xf || after.Question[0] != before.Question[0] || len(after.Answer) != len(before.Answer) {
			t.Errorf("%v was left of %v", &after, &before)
		}
	})
}
