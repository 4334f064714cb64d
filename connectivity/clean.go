package connectivity

import "github.com/overlane/overlane/internal/plain"

// clean takes out of a report's texts what a terminal would obey: they are shown as they are, and are another host's.
func (r *report) clean() {
	plainly(&r.Busy, &r.Error, &r.Network, &r.NoNames, &r.Unnamed)
	for i := range r.Unapplied {
		plainly(&r.Unapplied[i])
	}
	drops := make(map[string]uint64, len(r.Drops))
	for name, n := range r.Drops {
		plainly(&name)
		drops[name] += n
	}
	r.Drops = drops
	for i := range r.Unwell {
		u := &r.Unwell[i]
		plainly(&u.What, &u.Host, &u.Reason, &u.Advice)
	}
	for i := range r.Peers {
		r.Peers[i].clean()
	}
}

func (f *found) clean() {
	plainly(&f.ID, &f.NoKey, &f.Otherwise.Reason, &f.Otherwise.Advice)
	for i := range f.Checks {
		plainly(&f.Checks[i].Name, &f.Checks[i].Skipped, &f.Checks[i].Problem)
	}
}

// plainly does so for texts.
func plainly(texts ...*string) {
	for _, text := range texts {
		*text = plain.Text(*text)
	}
}
