package discovery

import (
	"net/netip"
	"time"
)

// packet is a decoded message: any mix of parts from one node.
type packet struct {
	from      nodeID
	address   netip.AddrPort // gossip address of the sender
	claim     claim          // of the sender
	announces []announce
	deltas    []delta
	wants     []want
	digest    *digest
	versions  *versions
	relay     *relay
	greeting  greeting // alone in its packet
	stream    bool     // sent over a stream
	heard     bool     // with stream: a datagram of the recipient's came in lately
}

// relay asks the recipient to pass the packet on to every member it knows of
// whose ID is from first to last.
type relay struct {
	first, last nodeID
}

// announce is the complete list of networks its owner subscribes to.
type announce struct {
	owner       nodeID
	incarnation uint64
	version     uint64
	left        bool          // the owner went for good; networks is empty then
	down        time.Duration // for how long the sender has seen the owner down
	networks    []announcedNetwork
}

// announcedNetwork is one owner's subscription to a network. Since is the version at
// which the owner's set began: anything older belongs to a subscription that has ended.
type announcedNetwork struct {
	Network
	since uint64
}

// delta brings an owner's set for a network from one version to another; from
// version 0 it is the full set. Endpoints are shared and never written to.
type delta struct {
	owner       nodeID
	incarnation uint64
	key         string
	encrypted   bool // the network is, whose set this is
	from, to    uint64
	upserts     []*Endpoint
	deletes     []MAC
	made        time.Time // when the owner made the last change, by its clock; zero: not known
}

// want asks for an owner's set, or with an empty key for its announcement.
type want struct {
	owner       nodeID
	incarnation uint64
	key         string
	have        uint64
}

// A digest has a number of buckets. Each covers the owners whose ID falls into
// it: more where there are many owners, so that few are listed when one differs.
const (
	minBuckets      = 16
	maxBuckets      = 64 // 512 bytes
	ownersPerBucket = 16
)

func bucketOf(id nodeID, buckets int) int { return int(id[0]) % buckets }

// digest sums up what two nodes both ought to hold. The empty digest answers
// one that agreed.
type digest struct {
	buckets []uint64
}

// versions lists what the sender holds. In an answer to a digest complete has as
// many buckets as the digest: where it is true, the bucket's owners are all
// there, and one that is missing is unknown to the sender.
type versions struct {
	complete []bool
	owners   []ownerVersions
}

func (v *versions) covers(id nodeID) bool {
	return len(v.complete) > 0 && v.complete[bucketOf(id, len(v.complete))]
}

type ownerVersions struct {
	owner       nodeID
	incarnation uint64
	version     uint64
	sets        []setVersion
}

type setVersion struct {
	key     string
	version uint64
}

// The sizes below are upper bounds of what the parts take on the wire, good
// enough to fill datagrams with.

const packetSize = 113

func (e *Endpoint) wireSize() int {
	return 24 + len(e.ID) + 20*len(e.Addrs) + extraSize*len(e.Extras) + 5 + len(e.Names)
}

const extraSize = 36

func (a *announce) wireSize() int {
	n := 56
	for _, p := range a.networks {
		n += 24 + len(p.Key)
	}
	return n
}

const (
	deltaSize  = 72
	deleteSize = 8
)

func (d *delta) wireSize() int {
	n := deltaSize + len(d.key) + deleteSize*len(d.deletes)
	for _, e := range d.upserts {
		n += e.wireSize()
	}
	return n
}

func (w *want) wireSize() int { return 48 + len(w.key) }

func (ov *ownerVersions) wireSize() int {
	n := 48
	for _, s := range ov.sets {
		n += 16 + len(s.key)
	}
	return n
}

const versionsSize = 16

func (v *versions) wireSize() int {
	n := versionsSize + 2*len(v.complete)
	for i := range v.owners {
		n += v.owners[i].wireSize()
	}
	return n
}

func (p *packet) wireSize() int {
	n := packetSize
	for i := range p.announces {
		n += p.announces[i].wireSize()
	}
	for i := range p.deltas {
		n += p.deltas[i].wireSize()
	}
	for i := range p.wants {
		n += p.wants[i].wireSize()
	}
	if p.digest != nil {
		n += 8 + 8*len(p.digest.buckets)
	}
	if p.versions != nil {
		n += p.versions.wireSize()
	}
	return n
}
