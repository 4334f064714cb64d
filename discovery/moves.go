package discovery

import (
	"fmt"
	"slices"
	"time"

	"github.com/sirupsen/logrus"
)

// An address that moves again and again is most likely two containers with one
// address, or a loop. As in RFC 7432 section 15.1 it is then left where it is for
// a while, and the operator is told.

// The RFC's M and N, with its defaults.
const (
	movesWithin = 180 * time.Second
	movesMost   = 5
)

// moved notes that the subject went to another VTEP, and freezes it if it did so
// too often.
func (v *view) moved(now time.Time, n Network, s subject, c *contest, to Change) {
	c.moves = slices.DeleteFunc(c.moves, func(at time.Time) bool { return now.Sub(at) >= movesWithin })
	c.moves = append(c.moves, now)
	if len(c.moves) < movesMost {
		return
	}
	c.moves = nil
	v.frozen[dirtySubject{n.Key, s}] = now.Add(movesWithin)
	if s.kind == KindMAC {
		v.alarms = append(v.alarms, fmt.Sprintf("MAC address %s of network %q moved %d times within %s, now to %s: it is left there for %s; "+
			"look for two containers with this address", to.MAC, n.Key, movesMost, movesWithin, to.VTEP, movesWithin))
	}
}

// winner is the first claim; of a frozen subject the one that was told, while it
// is still made.
func (v *view) winner(n Network, s subject, c *contest) Change {
	first := c.candidates[0].change(n, s)
	if _, frozen := v.frozen[dirtySubject{n.Key, s}]; !frozen {
		return first
	}
	for _, other := range c.candidates {
		if other.change(n, s) == c.told {
			return c.told
		}
	}
	return first
}

// thaw lets the subjects that were frozen long enough go to their winners.
func (v *view) thaw(now time.Time) {
	if v == nil {
		return
	}
	for d, until := range v.frozen {
		if !now.Before(until) {
			delete(v.frozen, d)
			if nv := v.networks[d.key]; nv != nil && nv.contests[d.subject] != nil {
				v.dirty[d] = struct{}{}
			}
		}
	}
}

func (v *view) takeAlarms() []note {
	if v == nil {
		return nil
	}
	var notes []note
	for _, text := range v.alarms {
		notes = append(notes, note{logrus.WarnLevel, text})
	}
	v.alarms = nil
	return notes
}
