package overlay

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/overlane/overlane/discovery"
)

// Who knocked is named with the reason why it was not taken in, and what to do where it should be.
func TestStrangersAreNamed(t *testing.T) {
	self := discovery.Member{Addr: netip.MustParseAddrPort("192.0.2.1:7950"), Cluster: "11"}
	at := netip.MustParseAddrPort("192.0.2.9:7950")
	for want, s := range map[string]discovery.Stranger{
		"host9 cluster 22 this host to 11 --join 192.0.2.1 overlane leave": {Host: "host9", Addr: at, Cluster: "22", Seen: time.Now()},
		"host9 no cluster yet --join 192.0.2.1":                            {Host: "host9", Addr: at, Seen: time.Now()},
		"192.0.2.9 another token --token":                                  {Addr: netip.AddrPortFrom(at.Addr(), 0), Key: true, Seen: time.Now()},
	} {
		row := strangers([]discovery.Stranger{s}, self)[0]
		said := row.Host + " " + row.Reason + " " + row.Advice
		for _, word := range strings.Fields(want) {
			if !strings.Contains(said, word) {
				t.Errorf("%+v: no word of %q in %q", s, word, said)
			}
		}
		if row.State != StateStranger || !strings.Contains(said, s.Seen.Local().Format(time.TimeOnly)) {
			t.Errorf("%+v is %q: %s", s, row.State, said)
		}
	}
}
