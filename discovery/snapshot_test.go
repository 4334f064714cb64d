package discovery

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func someSnapshot() []ownerSnapshot {
	address := netip.MustParseAddrPort("192.0.2.7:7950")
	return []ownerSnapshot{
		{announce{owner: nodeID{7}, incarnation: 8, version: 9, networks: []announcedNetwork{{appNet, 12}, {Network{"vni=1", 1, true}, 13}}}, meta{"host7", address, 8, keys{{7}}, 1500, claim{true, clusterID{7}}, true, true, true}, address},
		{announce{owner: nodeID{8}, incarnation: 8, version: 9, left: true, down: time.Hour}, meta{"host8", address, 8, keys{}, 0, claim{}, false, false, false}, address},
	}
}

func TestSnapshotSurvivesTheDisk(t *testing.T) {
	saved := time.UnixMilli(1_700_000_000_000)
	b, err := encodeSnapshot(saved, someSnapshot())
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[time.Time]time.Duration{
		saved.Add(time.Minute):  time.Minute,
		saved.Add(-time.Minute): 0, // the clock went back
	} {
		owners, ago, err := decodeSnapshot(at, b)
		if err != nil || ago != want || !reflect.DeepEqual(owners, someSnapshot()) {
			t.Errorf("%+v, %s ago (%v)", owners, ago, err)
		}
	}
}

func TestRestoredNodeTrustsNothingStale(t *testing.T) {
	s := startSim(t, 3, 3)
	h, other := s.hosts[0], s.hosts[1]
	stale := h.core.deltaFrom(h.core.owners[other.id], appKey, 0, 0)
	other.remove(appKey, testEndpoint(1, 1).MAC)
	s.run(time.Second)
	h.save()
	h.crash()
	for _, o := range s.hosts {
		o.move(o.number) // nobody hears of anybody
	}
	s.run(time.Minute)
	h.start()
	s.run(time.Second)
	if len(h.view) != 0 {
		t.Errorf("alone, it uses %v", h.view)
	}
	h.step(packetEvent{&packet{from: s.hosts[2].id, deltas: []delta{stale}}})
	if s := h.core.owners[other.id].set(appKey); s != nil {
		t.Errorf("it took version %d", s.version)
	}
	s.heal()
	s.run(10 * rejoinInterval)
	s.checkAgreement()
}

// An announcement says when a subscription began, which may be long before what this node
// held of it.
func TestNewerAnnouncementLowersNoMark(t *testing.T) {
	c, receive := twoNodes()
	c.step(c.now, restoreEvent{[]ownerSnapshot{{announced(2, 12), c.self.meta, c.address}}, 0})
	receive(packet{announces: []announce{announced(10, 2)}, deltas: []delta{setDelta(7, 0, 11)}})
	if s := c.owners[nodeID{2}].set(appKey); s != nil {
		t.Errorf("it took version %d", s.version)
	}
	receive(packet{deltas: []delta{setDelta(7, 0, 12)}})
	if c.owners[nodeID{2}].have(appKey) != 12 {
		t.Error("it did not take the version that it held before its restart")
	}
}

// What is left of an owner that is down may be older than what this node held
// before its restart: nothing is asked or sent in vain.
func TestWhatIsTooOldIsNotAskedFor(t *testing.T) {
	c, receive := twoNodes()
	gone := someSnapshot()[0]
	c.step(c.now, restoreEvent{[]ownerSnapshot{gone}, 0})
	receive(packet{announces: []announce{announced(2, 2)}})
	older := ownerVersions{gone.owner, gone.incarnation, gone.version, []setVersion{{appKey, gone.networks[0].since - 1}}}
	for _, s := range receive(packet{versions: &versions{owners: []ownerVersions{older}}}) {
		if len(s.packet.wants) > 0 {
			t.Errorf("it asks for %+v", s.packet.wants)
		}
	}
	for _, s := range receive(packet{digest: &digest{make([]uint64, minBuckets)}}) {
		for _, ov := range s.packet.versions.owners {
			if ov.owner == gone.owner && len(ov.sets) > 0 {
				t.Errorf("it says that it lacks %+v", ov.sets)
			}
		}
	}
}

func TestAwayForADayIsNotRestored(t *testing.T) {
	c, _ := twoNodes()
	c.step(c.now, restoreEvent{someSnapshot(), forgetAfter - 30*time.Minute})
	if c.owners[nodeID{7}] == nil || c.owners[nodeID{8}] != nil {
		t.Error("who was up when it was saved is forgotten, or who had been down for an hour is not")
	}
}

// A cluster that was off for days finds itself again; who does not come back is forgotten.
func TestWhoWasUpIsLookedForAfterDays(t *testing.T) {
	c, _ := twoNodes()
	c.step(c.now, restoreEvent{someSnapshot(), 3 * forgetAfter})
	if o := c.owners[nodeID{7}]; o == nil || !o.address.IsValid() {
		t.Fatal("who was up before is not looked for")
	}
	c.step(c.now.Add(2*rejoinTime), nil)
	if c.owners[nodeID{7}] != nil {
		t.Error("who did not come back is not forgotten")
	}
}

func TestRestartNeedsNoSeeds(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startNode(t, l.listen, 1)
		b := startNode(t, l.listen, 2, withJoin(a))
		for i, n := range []*testNode{a, b} {
			n.subscribe(appNet)
			n.Put(appKey, testEndpoint(i+1, 1))
		}
		b.waitView(5*time.Second, 1, 1, 2)
		b.cfg.Join = nil
		b.restartAt(netip.MustParseAddrPort("127.0.0.1:0")) // where the other does not look for it
		b.subscribe(appNet)
		b.waitView(30*time.Second, 1, 1, 2) // membership refuses the new address until the old one is dead
	})
}

// A node that is killed soon after it met another finds it again.
func TestWhoWasMetIsOnDiskSoon(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startNode(t, l.listen, 1)
		b := startNode(t, l.listen, 2, withJoin(a))
		a.wait(snapshotInterval/3, "the other node is on disk", func() bool {
			text, err := os.ReadFile(filepath.Join(a.cfg.Dir, snapshotFile))
			if err != nil {
				return false
			}
			owners, _, err := decodeSnapshot(time.Now(), text)
			return err == nil && len(owners) == 1 && owners[0].owner.String() == b.Self().ID
		})
	})
}

func TestDamagedSnapshotIsLeftAside(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startNode(t, l.listen, 1)
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(a.cfg.Dir, snapshotFile)
		if err := os.WriteFile(path, []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
		a.restart()
		if text := a.logged.String(); !strings.Contains(text, path+" is left aside") {
			t.Errorf("it says\n%s", text)
		}
	})
}

func TestRestoredOwnersAreNotTakenForLost(t *testing.T) {
	c, _ := twoNodes()
	c.step(c.now, restoreEvent{someSnapshot(), 0})
	c.step(c.now, memberUpEvent{nodeID{3}, c.self.meta, c.address})
	c.step(c.now, memberDownEvent{nodeID{2}})
	c.step(c.now, memberDownEvent{nodeID{3}})
	if !c.owners[nodeID{3}].frozen || c.owners[nodeID{7}].shown {
		t.Error("what an earlier life knew is in use")
	}
}
