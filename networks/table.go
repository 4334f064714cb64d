package networks

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"
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
	if !d.Removed && (old == nil || old.Removed) && t.live() >= maxHeld {
		return false, fmt.Errorf("network %s: %d networks are everywhere, and can't be more", d.Name, maxHeld)
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
	if len(t) <= maxRemoved {
		return
	}
	removed := slices.DeleteFunc(t.all(), func(d Definition) bool { return !d.Removed })
	slices.SortFunc(removed, func(a, b Definition) int {
		return cmp.Or(cmp.Compare(b.Version, a.Version), cmp.Compare(a.Name, b.Name))
	})
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

// next is a version that beats that of the network's definition, and most likely one that is not known here yet: it is the time, in
// milliseconds since 1970. A wrong clock does no harm but then.
func (t table) next(name string, now time.Time) uint64 {
	next := uint64(max(1, now.UnixMilli()))
	if d := t[name]; d != nil {
		next = max(next, d.Version+1)
	}
	return next
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
func (t table) digest() []byte {
	sum := sha256.New()
	for _, d := range t.all() {
		sum.Write(append(d.text(), '\n'))
	}
	return sum.Sum(nil)
}
