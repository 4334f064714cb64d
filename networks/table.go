package networks

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
)

// table holds the definitions by name. It merges: whatever order they come in, and however often, tables that have heard of the same
// definitions are the same.
type table map[string]*Definition

// merge takes a definition, and says whether it is news.
func (t table) merge(d Definition) (news bool, err error) {
	if err := d.check(); err != nil {
		return false, err
	}
	old := t[d.Name]
	if !d.beats(old) {
		return false, nil
	}
	if !d.Removed && (old == nil || old.Removed) && t.live() >= maxDefinitions {
		return false, fmt.Errorf("network %s: there are %d networks everywhere, and can't be more", d.Name, maxDefinitions)
	}
	t[d.Name] = &d
	t.forget()
	return true, nil
}

func (t table) live() (n int) {
	for _, d := range t {
		if !d.Removed {
			n++
		}
	}
	return n
}

// forget drops the oldest removals when they are too many.
func (t table) forget() {
	removed := slices.DeleteFunc(t.all(), func(d Definition) bool { return !d.Removed })
	slices.SortFunc(removed, func(a, b Definition) int { return cmp.Compare(b.Version, a.Version) })
	for _, d := range removed[min(len(removed), maxRemoved):] {
		delete(t, d.Name)
	}
}

// get is the definition of a network, nil if there is none or it was removed.
func (t table) get(name string) *Definition {
	if d := t[name]; d != nil && !d.Removed {
		return d
	}
	return nil
}

// next is a version that beats all that are known.
func (t table) next() uint64 {
	var last uint64
	for _, d := range t {
		last = max(last, d.Version)
	}
	return last + 1
}

// all lists the definitions by name.
func (t table) all() []Definition {
	var all []Definition
	for _, name := range slices.Sorted(maps.Keys(t)) {
		all = append(all, *t[name])
	}
	return all
}

// digest is the same for tables that hold the same.
func (t table) digest() [sha256.Size]byte {
	sum := sha256.New()
	for _, d := range t.all() {
		sum.Write(append(d.text(), '\n'))
	}
	return [sha256.Size]byte(sum.Sum(nil))
}
