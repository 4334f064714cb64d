package discovery

import (
	"bytes"
	"cmp"
	"slices"
	"time"
)

// set is one owner's endpoints in one network, at a version. It keeps the
// version of each endpoint's last change and of recent removals, so that a
// holder of an older version can be brought up by what changed since.
//
// The invariant: a set at version v has the owner's value of every endpoint whose
// last change is at v or before.
type set struct {
	incarnation uint64
	version     uint64
	floor       uint64    // removals up to this version are no longer known
	made        time.Time // when the owner made the last change, by its clock
	live        []item    // by MAC address
	removed     map[MAC]uint64
}

type item struct {
	endpoint *Endpoint
	version  uint64
}

// maxRemoved bounds the removals a set remembers, 32 KiB of a delta. Whoever is
// further behind gets the full set.
const maxRemoved = 4096

func newSet(incarnation, version uint64) *set {
	return &set{
		incarnation: incarnation,
		version:     version,
		floor:       version,
	}
}

// fill puts many endpoints into a new set at its version.
func (s *set) fill(endpoints []*Endpoint) {
	s.live = make([]item, len(endpoints))
	for i, e := range endpoints {
		s.live[i] = item{e, s.version}
	}
	slices.SortStableFunc(s.live, func(a, b item) int { return a.compareMAC(b.endpoint.MAC) })
	s.live = slices.CompactFunc(s.live, func(a, b item) bool { return a.endpoint.MAC == b.endpoint.MAC })
}

func (it item) compareMAC(mac MAC) int { return bytes.Compare(it.endpoint.MAC[:], mac[:]) }

func (s *set) find(mac MAC) (at int, found bool) {
	return slices.BinarySearchFunc(s.live, mac, item.compareMAC)
}

// endpoint is the live one with the MAC address, or nil.
func (s *set) endpoint(mac MAC) *Endpoint {
	if at, found := s.find(mac); found {
		return s.live[at].endpoint
	}
	return nil
}

func (s *set) put(e *Endpoint, version uint64) {
	delete(s.removed, e.MAC)
	if at, found := s.find(e.MAC); found {
		s.live[at] = item{e, version}
	} else {
		s.live = slices.Insert(s.live, at, item{e, version})
	}
	s.version = version
}

func (s *set) remove(mac MAC, version uint64) {
	if at, found := s.find(mac); found {
		s.live = slices.Delete(s.live, at, at+1)
	}
	if s.removed == nil {
		s.removed = map[MAC]uint64{}
	}
	s.removed[mac] = version
	s.version = version
	if len(s.removed) > maxRemoved {
		s.trim()
	}
}

// trim forgets the older half of the removals.
func (s *set) trim() {
	versions := make([]uint64, 0, len(s.removed))
	for _, v := range s.removed {
		versions = append(versions, v)
	}
	slices.Sort(versions)
	s.floor = versions[len(versions)/2]
	for mac, v := range s.removed {
		if v <= s.floor {
			delete(s.removed, mac)
		}
	}
}

// change is one step of a set's history: an endpoint, or a removal.
type change struct {
	version  uint64
	mac      MAC
	endpoint *Endpoint // nil: removed
}

// since lists what changed after a version, oldest first. It is the full set
// (and full is true) when the version is too old to know the removals.
func (s *set) since(version uint64) (changes []change, full bool) {
	if full = version < s.floor || version == 0; full {
		version = 0
	} else {
		for mac, v := range s.removed {
			if v > version {
				changes = append(changes, change{v, mac, nil})
			}
		}
	}
	for _, it := range s.live {
		if it.version > version {
			changes = append(changes, change{it.version, it.endpoint.MAC, it.endpoint})
		}
	}
	slices.SortFunc(changes, func(a, b change) int {
		return cmp.Or(cmp.Compare(a.version, b.version), bytes.Compare(a.mac[:], b.mac[:]))
	})
	return changes, full
}

func (d *delta) add(ch change) {
	if ch.endpoint == nil {
		d.deletes = append(d.deletes, ch.mac)
	} else {
		d.upserts = append(d.upserts, ch.endpoint)
	}
}
