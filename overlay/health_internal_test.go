package overlay

import (
	"strings"
	"testing"

	"github.com/overlane/overlane/discovery"
)

func TestEveryMemberThatIsNotWellSaysWhy(t *testing.T) {
	for want, m := range map[string]discovery.Member{
		"":                {State: discovery.StateAlive},
		"owes an answer":  {State: discovery.StateSuspect},
		"does not answer": {State: discovery.StateDead},
		"cut off":         {State: discovery.StateDead, Frozen: true},
		"was shut down":   {State: discovery.StateLeft},
	} {
		got := memberHealth(m)
		if !strings.Contains(got.Reason, want) || (want == "") != (got.Reason == "") || (got.Reason == "") != (got.Advice == "") {
			t.Errorf("%s: %+v", m.State, got)
		}
	}
}
