package discovery

import (
	"net/netip"
	"time"
)

// packet is a decoded message: any mix of parts from one node.
type packet struct {
	from      nodeID
	address   netip.AddrPort // gossip address of the sender
	announces []announce
	deltas    []delta
	wants     []want
	digest    *digest
	versions  *versions
}

// announce is the complete list of networks its owner takes part in.
type announce struct {
	owner       nodeID
	incarnation uint64
	version     uint64
	left        bool          // the owner went for good; networks is empty then
	down        time.Duration // for how long the sender has seen the owner down
	networks    []participation
}

// participation is one owner's part in a network. Since is the version at which
// the owner's set began: anything older belongs to a part that has ended.
type participation struct {
	Network
	since uint64
}

// delta brings an owner's set for a network from one version to another; from
// version 0 it is the full set. Endpoints are shared and never written to.
type delta struct {
	owner       nodeID
	incarnation uint64
	key         string
	from, to    uint64
	upserts     []*Endpoint
	deletes     []MAC
}

// want asks for an owner's set, or with an empty key for its announcement.
type want struct {
	owner       nodeID
	incarnation uint64
	key         string
	have        uint64
}

// buckets is how many numbers a digest has. Each covers the owners whose ID
// falls into it.
const buckets = 16

func bucketOf(id nodeID) int { return int(id[0]) % buckets }

// digest sums up what two nodes both ought to hold. The empty digest answers
// one that agreed.
type digest struct {
	buckets []uint64
}

// versions lists what the sender holds. The owners of the buckets in complete
// are all there: one that is missing is unknown to the sender.
type versions struct {
	complete uint32
	owners   []ownerVersions
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

const packetSize = 48

func (e *Endpoint) wireSize() int { return 24 + len(e.ID) + 20*len(e.Addrs) }

func (a *announce) wireSize() int {
	n := 56
	for _, p := range a.networks {
		n += 24 + len(p.Key)
	}
	return n
}

const (
	deltaSize  = 64
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

func (v *versions) wireSize() int {
	n := 16
	for _, o := range v.owners {
		n += 48
		for _, s := range o.sets {
			n += 16 + len(s.key)
		}
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
