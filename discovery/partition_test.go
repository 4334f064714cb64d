package discovery

import (
	"testing"
	"time"
)

func TestCutOffNodeWithdrawsNothing(t *testing.T) {
	s := startSim(t, 5, 3)
	alone := s.hosts[0]
	alone.move(1)
	s.run(time.Minute)
	if alone.gone > 0 {
		t.Errorf("the node that was cut off withdrew %d things", alone.gone)
	}
	for _, m := range alone.core.members(s.now) {
		if !m.Self && (m.State != StateDead || !m.Frozen) {
			t.Errorf("it sees %+v", m)
		}
	}
	for _, h := range s.hosts[1:] {
		if h.core.owners[alone.id].shown {
			t.Errorf("%s, which lost one of four, goes on using its records", h)
		}
	}
	s.hosts[1].remove(appKey, testEndpoint(1, 1).MAC)
	s.heal()
	s.run(rejoinInterval + simPoll + 10*time.Millisecond)
	s.checkAgreement()
	for _, m := range alone.core.members(s.now) {
		if m.Frozen {
			t.Errorf("after its return it sees %+v", m)
		}
	}
	if alone.gone != 3 {
		t.Errorf("after its return it withdrew %d things, not the one endpoint's MAC and addresses", alone.gone)
	}
}

func TestCutOffNodeStillHearsAWordOfLeave(t *testing.T) {
	c, receive := twoNodes()
	receive(packet{announces: []announce{announced(2, 2), {owner: nodeID{3}, incarnation: 1, version: 1}}})
	at := time.Unix(1, 0)
	c.step(at, memberUpEvent{nodeID{3}, c.self.meta, c.address})
	c.step(at, memberDownEvent{nodeID{2}})
	c.step(at, memberDownEvent{nodeID{3}})
	at = at.Add(time.Hour)
	if c.step(at, nil); !c.owners[nodeID{2}].shown {
		t.Fatal("it was withdrawn")
	}
	last := announced(3, 3)
	last.left, last.networks = true, nil
	c.step(at, packetEvent{&packet{from: nodeID{3}, announces: []announce{last}}})
	if c.owners[nodeID{2}].shown || !c.owners[nodeID{3}].shown {
		t.Error("who left is not withdrawn, or who did not is")
	}
}

// An operator's word that a node is down counts until it is back, whoever goes down next.
func TestWithdrawnByAnOperatorsWord(t *testing.T) {
	c, receive := twoNodes()
	receive(packet{announces: []announce{announced(2, 2)}})
	at := time.Unix(1, 0)
	for _, id := range []byte{3, 4} {
		c.step(at, memberUpEvent{nodeID{id}, c.self.meta, c.address})
	}
	for _, id := range []byte{2, 3} {
		c.step(at, memberDownEvent{nodeID{id}})
	}
	withdrawn := c.owners[nodeID{2}]
	if !withdrawn.shown || !withdrawn.frozen {
		t.Fatal("two of three peers went down together, and are withdrawn")
	}
	at = at.Add(hideAfter)
	c.step(at, withdrawEvent{nodeID{2}})
	c.step(at, memberDownEvent{nodeID{4}})
	if withdrawn.shown || withdrawn.frozen || !c.owners[nodeID{3}].frozen {
		t.Errorf("it is in use: %t, frozen: %t; another, of which nothing was said, is frozen: %t", withdrawn.shown, withdrawn.frozen, c.owners[nodeID{3}].frozen)
	}
	c.step(at, memberUpEvent{nodeID{2}, c.self.meta, c.address})
	c.step(at, withdrawEvent{nodeID{2}})
	if !withdrawn.shown {
		t.Error("it is back, and not in use")
	}
}

func TestWhenAMemberWasLastSeen(t *testing.T) {
	c, _ := twoNodes()
	at := time.Unix(1, 0)
	c.step(at, memberDownEvent{nodeID{2}})
	c.step(at.Add(time.Minute), memberUpEvent{nodeID{3}, c.self.meta, c.address})
	for _, m := range c.members(at.Add(time.Hour)) {
		if want := m.ID == (nodeID{2}).String(); want != m.LastSeen.Equal(at) || !want && !m.LastSeen.IsZero() {
			t.Errorf("%s is %s, and was last seen %v", m.ID, m.State, m.LastSeen)
		}
	}
}

// Who is forgotten while it was in use nonetheless goes from the view as well.
func TestCutOffNodeForgetsWhatItWithdraws(t *testing.T) {
	c, receive := twoNodes()
	receive(packet{announces: []announce{announced(2, 2), {owner: nodeID{3}, incarnation: 1, version: 1}}})
	receive(packet{deltas: []delta{setDelta(7, 0, 2)}})
	at := time.Unix(1, 0)
	c.step(at, memberUpEvent{nodeID{3}, c.self.meta, c.address})
	c.step(at, memberDownEvent{nodeID{2}})
	c.step(at, memberDownEvent{nodeID{3}})
	if c.step(at.Add(time.Hour), nil); !c.owners[nodeID{2}].shown {
		t.Fatal("it was withdrawn")
	}
	owner := c.owners[nodeID{2}]
	if out := c.step(at.Add(forgetAfter+time.Hour), nil); owner.shown || c.owners[nodeID{2}] != nil || len(out.changes) == 0 {
		t.Errorf("forgotten: %t, withdrawn: %t, changes %v", c.owners[nodeID{2}] == nil, !owner.shown, out.changes)
	}
}

func TestThirdOfThePeersIsManyAndLessIsNot(t *testing.T) {
	for peers, many := range map[int]bool{6: true, 7: false} {
		c, _ := twoNodes()
		for i := range peers - 1 {
			c.step(c.now, memberUpEvent{nodeID{byte(3 + i)}, c.self.meta, c.address})
		}
		c.step(c.now, memberDownEvent{nodeID{2}})
		c.step(c.now, memberDownEvent{nodeID{3}})
		if got := c.owners[nodeID{3}].frozen; got != many {
			t.Errorf("two of %d peers went down together: their records stay: %t, want %t", peers, got, many)
		}
	}
}

// A host that is killed twice in a few seconds is one that went down, and no reason to think that this node is cut off.
func TestOneHostThatDiesTwiceIsOne(t *testing.T) {
	c, _ := twoNodes()
	for _, id := range []byte{2, 3} {
		c.step(c.now, memberUpEvent{nodeID{id}, c.self.meta, c.address})
	}
	c.step(c.now, memberDownEvent{nodeID{2}})
	c.step(c.now, memberUpEvent{nodeID{2}, c.self.meta, c.address})
	c.step(c.now, memberDownEvent{nodeID{2}})
	if c.owners[nodeID{2}].frozen || c.partitioned {
		t.Errorf("one of two peers went down twice: its records stay: %t, this node is cut off: %t", c.owners[nodeID{2}].frozen, c.partitioned)
	}
}
