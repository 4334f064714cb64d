package ipam

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/overlane/overlane/overlay/ipam/prefix"
)

// poolID names a pool on all hosts that use it.
type poolID struct {
	Key    string // of the network
	Subnet netip.Prefix
}

func (id poolID) compare(other poolID) int {
	return cmp.Or(cmp.Compare(id.Key, other.Key), id.Subnet.Addr().Compare(other.Subnet.Addr()), cmp.Compare(id.Subnet.Bits(), other.Subnet.Bits()))
}

func (id poolID) String() string { return id.Key + " " + id.Subnet.String() }

// stored is what a host must not forget of a pool, beside its leases.
type stored struct {
	Key      string            `json:"key"`
	Subnet   netip.Prefix      `json:"subnet"`
	Range    netip.Prefix      `json:"range"`    // from which this host gives out; zero: all
	Owner    string            `json:"owner"`    // this host in the table; see ownerName
	Member   bool              `json:"member"`   // a network of this host uses the pool; else the host only keeps what it has to pass on
	Released bool              `json:"released"` // Docker has given the pool back, of a network that it is about to delete
	Origin   origin            `json:"origin"`
	Table    table             `json:"table"` // of everything, once the first claim is over
	Names    map[string]string `json:"names"` // of the hosts that were met, by their ID
}

// pool is a pool at work.
type pool struct {
	stored
	id           poolID
	lo, hi       uint64 // of the addresses that this host gives out
	bootstrapped bool
	began        time.Time // of the first claim, or of the daemon
	asked        time.Time // last word about the first claim
	resyncing    bool      // taken from disk: the others are to be heard first
	leaving      bool      // and the others were asked since what they know

	used           map[uint64]lease
	quarantine     []release // the next to be free again first
	quarantined    map[uint64]bool
	cursor         uint64 // of the last address given out
	own            uint64 // addresses that this host owns
	ownUsed        uint64 // of them in use
	hash           uint64
	peers          map[string]*peerState
	opening        []opening
	waiting        []*request
	question       *question // the one for any addresses that is under way
	changed        time.Time // last change of the table, of a lease here, or of what another host tells of itself
	lastSync       time.Time // last exchange with another host
	nextCompaction time.Time
	exhaustedUntil time.Time            // nobody had a fresh address to give lately
	nextAsk        time.Time            // for more, ahead of need
	lost           string               // the host from which an address is being taken over
	missing        map[uint64]time.Time // since when a lease has had no endpoint
}

// opening waits for a pool to be ready.
type opening struct {
	at   time.Time
	done func(error)
}

// release is an address that was given back.
type release struct {
	at    uint64
	until time.Time
}

// peerState is another host as its last message about the pool shows it.
type peerState struct {
	owner       string // it in the table
	member      bool
	knows       bool
	proposed    bool
	origin      origin
	echo        origin       // what it had heard of this host's
	other       netip.Prefix // of the same network, if it has that and not this pool
	free        uint64
	hash        uint64
	held        map[uint64]bool
	lost        string // from whom it takes over an address, or sees down like this host
	fresh       bool   // its last word was said since it is up, and since it was invalidated
	synced      bool   // and since then it has told all that it knows; or that it does not have the pool
	invalidated uint64 // messages that this host had sent by then: what does not answer a later one may be old
	answered    uint64 // the last question that was answered
	answer      *message
}

// question is an ask on its way.
type question struct {
	ask
	host  string
	first time.Time
	last  time.Time
}

func newPool(s stored, now time.Time) *pool {
	p := &pool{stored: s, id: poolID{s.Key, s.Subnet}, began: now, changed: now, used: map[uint64]lease{}, quarantined: map[uint64]bool{}, peers: map[string]*peerState{}, missing: map[uint64]time.Time{}}
	p.lo, p.hi = prefix.BoundsWithin(s.Subnet, s.Range)
	p.bootstrapped = len(s.Table) > 0
	if p.Names == nil {
		p.Names = map[string]string{}
	}
	return p
}

// count brings the sums in line with the table and the leases.
func (p *pool) count() {
	p.own, p.ownUsed = 0, 0
	hash := fnv.New64a()
	for _, s := range p.Table {
		var b [8]byte
		for _, n := range []uint64{s.First, s.Last, s.Epoch, s.Version} {
			binary.LittleEndian.PutUint64(b[:], n)
			hash.Write(b[:])
		}
		hash.Write([]byte(s.Owner))
		if s.Owner == p.Owner {
			p.own += s.size()
		}
	}
	p.hash = hash.Sum64()
	for at := range p.used {
		if s, ok := p.Table.of(at); ok && s.Owner == p.Owner {
			p.ownUsed++
		}
	}
	p.quarantine = slices.DeleteFunc(p.quarantine, func(r release) bool {
		s, _ := p.Table.of(r.at)
		if s.Owner != p.Owner {
			delete(p.quarantined, r.at)
		}
		return s.Owner != p.Owner
	})
}

func (p *pool) peer(id string) *peerState {
	if p.peers[id] == nil {
		p.peers[id] = new(peerState)
	}
	return p.peers[id]
}

func (p *pool) free() uint64 { return p.own - p.ownUsed }

// freeWithin counts the free addresses that this host may give out itself.
func (p *pool) freeWithin() uint64 { return p.freeFrom(p.lo, p.hi) }

// freeFrom counts the free addresses of this host from one to another.
func (p *pool) freeFrom(first, last uint64) (n uint64) {
	if lo, hi := prefix.Bounds(p.Subnet); first <= lo && last >= hi {
		return p.free()
	}
	for _, s := range p.Table.owned(p.Owner, first, last) {
		n += s.size()
	}
	for at := range p.used {
		if at >= first && at <= last {
			n -= p.ours(at)
		}
	}
	return n
}

// attached says whether a container has an address.
func (p *pool) attached() bool {
	for _, l := range p.used {
		if l.MAC != "" {
			return true
		}
	}
	return false
}

func (p *pool) inUse(at uint64) bool {
	_, used := p.used[at]
	return used
}

func (p *pool) addr(at uint64) netip.Addr { return prefix.Address(p.Subnet, at) }

// held lists the addresses in use here that others own.
func (p *pool) held() []uint64 {
	if uint64(len(p.used)) == p.ownUsed {
		return nil
	}
	var held []uint64
	for at := range p.used {
		if s, ok := p.Table.of(at); !ok || s.Owner != p.Owner {
			held = append(held, at)
		}
	}
	slices.Sort(held)
	return held[:min(len(held), maxHeld)]
}

// holder is another host on which a container has the address, whoever owns it.
func (p *pool) holder(at uint64) (string, bool) {
	for id, peer := range p.peers {
		if peer.held[at] {
			return id, true
		}
	}
	return "", false
}

// pick finds a free address of this host: one that was not in use lately, or one whose quarantine is over. The search goes on
// where it ended last.
func (p *pool) pick(now time.Time) (uint64, bool) {
	if p.free() <= uint64(len(p.quarantine)) {
		return p.pickReleased(now)
	}
	spans := p.Table.owned(p.Owner, p.lo, p.hi)
	for _, after := range []bool{true, false} {
		for _, s := range spans {
			if after {
				s.First = max(s.First, p.cursor+1)
			}
			for at := s.First; at <= s.Last && (after || at <= p.cursor); at++ {
				if p.fresh(at) {
					return at, true
				}
			}
		}
	}
	return p.pickReleased(now)
}

func (p *pool) fresh(at uint64) bool {
	if p.inUse(at) || p.quarantined[at] {
		return false
	}
	_, held := p.holder(at)
	return !held
}

// pickReleased finds the address that was released first, if its quarantine is over by then.
func (p *pool) pickReleased(by time.Time) (uint64, bool) {
	for _, r := range p.quarantine {
		if r.until.After(by) {
			return 0, false
		}
		if s, ok := p.Table.of(r.at); !ok || s.Owner != p.Owner || r.at < p.lo || r.at > p.hi {
			continue
		}
		if _, held := p.holder(r.at); !held {
			return r.at, true
		}
	}
	return 0, false
}

// putInQuarantine keeps an address from being given out again for a while.
func (p *pool) putInQuarantine(at uint64, until time.Time) {
	p.endQuarantine(at)
	r := release{at, until}
	i, _ := slices.BinarySearchFunc(p.quarantine, r, func(a, b release) int { return cmp.Or(a.until.Compare(b.until), cmp.Compare(a.at, b.at)) })
	p.quarantine = slices.Insert(p.quarantine, i, r)
	p.quarantined[at] = true
}

func (p *pool) endQuarantine(at uint64) {
	if p.quarantined[at] {
		delete(p.quarantined, at)
		p.quarantine = slices.DeleteFunc(p.quarantine, func(r release) bool { return r.at == at })
	}
}

// spare lists what this host could give away between first and last: what it can't use itself, and of the rest at most
// a number of addresses, in as few spans as there are. Those that were released lately only go to who has none at all.
func (p *pool) spare(first, last, most uint64, released bool) table {
	var give, inside table
	kept := slices.Collect(maps.Keys(p.used))
	for _, peer := range p.peers {
		kept = slices.AppendSeq(kept, maps.Keys(peer.held))
	}
	if !released {
		kept = slices.AppendSeq(kept, maps.Keys(p.quarantined))
	}
	slices.Sort(kept)
	kept = slices.Compact(kept)
	for _, s := range p.Table.owned(p.Owner, first, last) {
		for _, run := range runs(s, kept) {
			below, within, above := run, run, run
			below.Last, above.First = min(run.Last, p.lo-1), max(run.First, p.hi+1)
			within.First, within.Last = max(run.First, p.lo), min(run.Last, p.hi)
			for _, part := range []span{below, above} {
				if part.First <= part.Last {
					give = append(give, part)
				}
			}
			if within.First <= within.Last {
				inside = append(inside, within)
			}
		}
	}
	slices.SortStableFunc(inside, func(a, b span) int { return cmp.Compare(b.size(), a.size()) })
	for _, run := range inside {
		if most == 0 || len(give) >= maxGrantSpans {
			break
		}
		run.First = max(run.First, run.Last-min(run.size(), most)+1)
		most -= run.size()
		give = append(give, run)
	}
	give = give[:min(len(give), maxGrantSpans)]
	slices.SortFunc(give, func(a, b span) int { return cmp.Compare(a.First, b.First) })
	return give
}

// runs are the parts of a span without some addresses, which are in order.
func runs(s span, used []uint64) []span {
	var all []span
	i, _ := slices.BinarySearch(used, s.First)
	for ; i < len(used) && used[i] <= s.Last; i++ {
		if used[i] > s.First {
			before := s
			before.Last = used[i] - 1
			all = append(all, before)
		}
		if used[i] == s.Last {
			return all
		}
		s.First = used[i] + 1
	}
	return append(all, s)
}
