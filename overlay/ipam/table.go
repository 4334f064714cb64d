package ipam

import "slices"

// span says who owns the addresses from First to Last of a pool, counted from its network address. Of two statements
// about an address the one with the higher (Epoch, Version) counts. Only the owner raises Version; a reclaim raises Epoch.
type span struct {
	First   uint64 `json:"f"`
	Last    uint64 `json:"l"`
	Owner   string `json:"o"` // see ownerName; or ownerGateway, ownerReserved
	Epoch   uint64 `json:"e,omitempty"`
	Version uint64 `json:"v"`
}

// Owners that are no hosts: such an address is the same on every host, and never handed out.
const (
	ownerGateway  = "gateway"
	ownerReserved = "reserved" // --aux-address
)

func isHost(owner string) bool { return owner != ownerGateway && owner != ownerReserved }

func (s span) size() uint64 { return s.Last - s.First + 1 }

// beats says whether s counts rather than t. Statements alike but for the owner come from two reclaims of one host.
func (s span) beats(t span) bool {
	switch {
	case s.Epoch != t.Epoch:
		return s.Epoch > t.Epoch
	case s.Version != t.Version:
		return s.Version > t.Version
	}
	return s.Owner < t.Owner
}

// table is a set of spans, sorted and disjoint.
type table []span

// add appends a span, which becomes one with the last where they say the same.
func (t table) add(s span) table {
	if n := len(t); n > 0 {
		last := &t[n-1]
		if last.Last+1 == s.First && last.Owner == s.Owner && last.Epoch == s.Epoch && last.Version == s.Version {
			last.Last = s.Last
			return t
		}
	}
	return append(t, s)
}

// merge is what two tables say together.
func merge(a, b table) table {
	out := make(table, 0, len(a)+len(b))
	a, b = slices.Clone(a), slices.Clone(b) // whose first spans are cut
	for len(a) > 0 && len(b) > 0 {
		x, y := &a[0], &b[0]
		switch {
		case x.First < y.First:
			a, out = out.take(a, min(x.Last, y.First-1))
		case y.First < x.First:
			b, out = out.take(b, min(y.Last, x.First-1))
		default:
			last := min(x.Last, y.Last)
			winner := *y
			if x.beats(*y) {
				winner = *x
			}
			winner.Last = last
			out = out.add(winner)
			a, b = a.after(last), b.after(last)
		}
	}
	for _, s := range append(a, b...) {
		out = out.add(s)
	}
	return out
}

// take moves what the first of the spans says up to last.
func (t table) take(from table, last uint64) (rest, out table) {
	s := from[0]
	s.Last = last
	return from.after(last), t.add(s)
}

// after is the table without what its first span says up to last. The span is changed in place.
func (t table) after(last uint64) table {
	if t[0].Last == last {
		return t[1:]
	}
	t[0].First = last + 1
	return t
}

// of finds the span of an address.
func (t table) of(at uint64) (span, bool) {
	i, found := slices.BinarySearchFunc(t, at, func(s span, at uint64) int {
		switch {
		case s.Last < at:
			return -1
		case s.First > at:
			return 1
		}
		return 0
	})
	if !found {
		return span{}, false
	}
	return t[i], true
}

// covers says whether nothing from lo to hi is left out.
func (t table) covers(lo, hi uint64) bool {
	for _, s := range t {
		if s.First != lo {
			return false
		}
		lo = s.Last + 1
	}
	return lo == hi+1
}

// owned lists an owner's spans, cut to lie between lo and hi.
func (t table) owned(owner string, lo, hi uint64) []span {
	var spans []span
	for _, s := range t {
		s.First, s.Last = max(s.First, lo), min(s.Last, hi)
		if s.Owner == owner && s.First <= s.Last {
			spans = append(spans, s)
		}
	}
	return spans
}

// owners lists the hosts that own something, in order of the addresses.
func (t table) owners() []string {
	var owners []string
	seen := map[string]bool{}
	for _, s := range t {
		if isHost(s.Owner) && !seen[s.Owner] {
			seen[s.Owner] = true
			owners = append(owners, s.Owner)
		}
	}
	return owners
}

// given is what the table says of the addresses from first to last once they are their owner's no more.
func (t table) given(first, last uint64, to string, epoch uint64) table {
	var out table
	for _, s := range t {
		s.First, s.Last = max(s.First, first), min(s.Last, last)
		if s.First > s.Last {
			continue
		}
		s.Owner = to
		s.Epoch += epoch
		s.Version++
		out = out.add(s)
	}
	return out
}
