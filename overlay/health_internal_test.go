package overlay

import (
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
		"cut off":                       {State: discovery.StateDead, Frozen: true},
		"was shut down":                 {State: discovery.StateLeft},
	} {
		got := memberHealth(m)
		if !strings.Contains(got.Reason, want) || (want == "") != (got.Reason == "") || (got.Reason == "") != (got.Advice == "") {
			t.Errorf("%s: %+v", m.State, got)
		}
	}
}
