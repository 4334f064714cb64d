package discovery

import (
	"cmp"
	"slices"
)

// part is an owner's part in a network, and its set if this node holds it: of
// the networks both take part in. A set of an older incarnation serves until it
// is replaced.
type part struct {
	participation
	set *set
}

// part is the owner's in a network, or nil.
func (o *owner) part(key string) *part {
	at, found := slices.BinarySearchFunc(o.parts, key, func(p part, key string) int { return cmp.Compare(p.Key, key) })
	if !found {
		return nil
	}
	return &o.parts[at]
}

func (o *owner) set(key string) *set {
	if p := o.part(key); p != nil {
		return p.set
	}
	return nil
}

// since is the version below which the owner's sets are over.
func (o *owner) since(key string) uint64 {
	if p := o.part(key); p != nil {
		return p.since
	}
	return 0
}

// take replaces the owner's parts, and keeps what sets it can. Within an
// incarnation none begins before it was known to: what was on disk is a mark.
func (o *owner) take(networks []participation, sameIncarnation bool, keep func(*part) bool) {
	parts := make([]part, len(networks))
	for i, p := range networks {
		if sameIncarnation {
			p.since = max(p.since, o.since(p.Key))
		}
		parts[i] = part{p, o.set(p.Key)}
	}
	slices.SortStableFunc(parts, func(a, b part) int { return cmp.Compare(a.Key, b.Key) })
	o.parts = slices.CompactFunc(parts, func(a, b part) bool { return a.Key == b.Key })
	for i := range o.parts {
		if p := &o.parts[i]; p.set != nil && !keep(p) {
			p.set = nil
		}
	}
}

func (o *owner) enter(p part) {
	at, _ := slices.BinarySearchFunc(o.parts, p.Key, func(p part, key string) int { return cmp.Compare(p.Key, key) })
	o.parts = slices.Insert(o.parts, at, p)
}

func (o *owner) quit(key string) {
	o.parts = slices.DeleteFunc(o.parts, func(p part) bool { return p.Key == key })
}
