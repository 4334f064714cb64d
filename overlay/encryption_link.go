package overlay

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/overlay/keyexchange"
)

// link is what the datapath has of the keys that were agreed for a VTEP.
type link struct {
	vtep   netip.AddrPort
	member discovery.Member // there; zero: none
	since  time.Time        // that host has a part in an encrypted network
	needed bool             // some host has
	told   bool             // that it lacks keys, in the log

	wanted keyexchange.PeerSAs
	made   map[*keyexchange.SA]*datapath.SA
	in     []*datapath.SA // that the datapath has
	dirty  bool           // the datapath has others than wanted
	retry
}

func newLink(vtep netip.AddrPort, now time.Time) *link {
	return &link{vtep: vtep, since: now, made: map[*keyexchange.SA]*datapath.SA{}}
}

// meet says which host is there now.
func (l *link) meet(m discovery.Member, now time.Time) {
	if l.member.ID != m.ID || !l.needed {
		l.since = now
	}
	l.member = m
}

// want says which SAs are to be in force, in place of those before.
func (l *link) want(s keyexchange.PeerSAs) {
	l.wanted, l.dirty = s, true
	l.retry = retry{}
}

// sending is that with which packets leave; nil: they do not.
func (l *link) sending() *datapath.SA { return l.made[l.wanted.Out] }

// program brings the datapath to what was agreed, where that is due, and forgets the VTEPs of which there is nothing.
func (e *encryption) program(dp Datapath, log logrus.FieldLogger) {
	now := time.Now()
	for vtep, l := range e.links {
		if l.dirty && l.due(now) {
			if err := l.program(dp); err != nil {
				l.failed(err, now)
				if l.failures == 1 {
					log.WithError(err).WithField("vtep", vtep).Error("keys for an encrypted network are not in force: overlane tries again")
				}
			} else {
				l.dirty, l.retry = false, retry{}
			}
		}
		if !l.dirty && !l.needed && len(l.made) == 0 {
			delete(e.links, vtep)
		}
	}
}

// program has the datapath use the SAs that are wanted, and then free those that are not. Each is made once, and its key is wiped here then: two objects with one
// key would send two packets with one nonce.
func (l *link) program(dp Datapath) error {
	for _, sa := range l.all() {
		if l.made[sa] != nil {
			continue
		}
		made, err := dp.NewSA(datapath.SAConfig{SPI: sa.SPI, Key: sa.Key, Salt: sa.Salt})
		if err != nil { // the one before may be a copy of this host's by now: it sends no more
			return errors.Join(fmt.Errorf("SA of VTEP %s: %w", l.vtep, err), dp.SetSAs(l.vtep, nil, l.in))
		}
		sa.Wipe()
		l.made[sa] = made
	}
	var in []*datapath.SA
	for _, sa := range l.wanted.In {
		in = append(in, l.made[sa])
	}
	if err := dp.SetSAs(l.vtep, l.sending(), in); err != nil {
		return fmt.Errorf("SAs of VTEP %s: %w", l.vtep, err)
	}
	l.in = in
	wanted := l.all()
	for sa, made := range l.made {
		if !slices.Contains(wanted, sa) {
			dp.FreeSA(made)
			delete(l.made, sa)
		}
	}
	return nil
}

// all are the SAs that are wanted.
func (l *link) all() []*keyexchange.SA {
	if l.wanted.Out == nil {
		return l.wanted.In
	}
	return append(slices.Clone(l.wanted.In), l.wanted.Out)
}
