package discovery

import (
	"testing"
	"time"
)

// Names come and go with their endpoint, and change beside it.
func TestNamesFollowTheirEndpoint(t *testing.T) {
	s := startSim(t, 3, 0)
	e := testEndpoint(0, 1)
	about := Change{Network: appNet, Kind: KindNames, VTEP: s.hosts[0].core.self.meta.vtep, MAC: e.MAC}.about()
	for _, names := range []string{"db", "", "db store", "db"} {
		e.Names = names
		s.hosts[0].put(appKey, e)
		s.run(time.Second)
		s.checkAgreement()
		if got := s.hosts[2].view[about]; got.Names != names {
			t.Errorf("the container is called %q, want %q", got.Names, names)
		}
	}
	s.hosts[0].remove(appKey, e.MAC)
	s.run(time.Second)
	s.checkAgreement()
	if got, has := s.hosts[2].view[about]; has {
		t.Errorf("the container is gone, and still called %q", got.Names)
	}
}

// Those of a host that died are nowhere, and are back with it.
func TestNamesDieWithTheirHost(t *testing.T) {
	s := startSim(t, 5, 0)
	e := testEndpoint(0, 1)
	e.Names = "db"
	about := Change{Network: appNet, Kind: KindNames, VTEP: s.hosts[0].core.self.meta.vtep, MAC: e.MAC}.about()
	s.hosts[0].put(appKey, e)
	s.run(time.Second)
	s.hosts[0].crash()
	s.run(20 * time.Second)
	if got, has := s.hosts[2].view[about]; has {
		t.Errorf("the host is dead, and its container still called %q", got.Names)
	}
	s.hosts[0].start()
	s.run(20 * time.Second)
	s.checkAgreement()
	if got := s.hosts[2].view[about]; got.Names != "db" {
		t.Errorf("the host is back, and its container called %q", got.Names)
	}
}
