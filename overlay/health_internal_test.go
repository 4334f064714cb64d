package overlay

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/overlane/overlane/discovery"
)

func TestEveryMemberThatIsNotWellSaysWhy(t *testing.T) {
	for want, m := range map[string]discovery.Member{
		"":                              {State: discovery.StateAlive},
		"owes an answer":                {State: discovery.StateSuspect},
		"last seen 2026-11-28 10:02:11": {State: discovery.StateDead, LastSeen: time.Date(2026, 11, 28, 10, 2, 11, 0, time.Local)},
		"neither UDP nor TCP":           {State: discovery.StateDead},
		"UDP from 192.0.2.1 to 192.0.2.2 port 7951 does not arrive":                {State: discovery.StateAlive, Deaf: true},
		"UDP from 192.0.2.2 to 192.0.2.1 port 7950 does not arrive":                {State: discovery.StateAlive, Mute: true},
		"port 7951, and UDP from 192.0.2.2 to 192.0.2.1 port 7950 does not arrive": {State: discovery.StateAlive, Deaf: true, Mute: true},
		"cut off":       {State: discovery.StateDead, Frozen: true},
		"was shut down": {State: discovery.StateLeft},
	} {
		m.Addr = netip.MustParseAddrPort("192.0.2.2:7951")
		got := memberHealth(m, netip.MustParseAddrPort("192.0.2.1:7950"))
		if !strings.Contains(got.Reason, want) || (want == "") != (got.Reason == "") || (got.Reason == "") != (got.Advice == "") {
			t.Errorf("%s: %+v", m.State, got)
		}
	}
}
