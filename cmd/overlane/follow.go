package main

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/internal/hostaddr"
)

// How long to wait before a move that failed is tried again: IPv6 has an address looked for on the link first (RFC 4862).
const moveAgain = time.Second

// mover takes this host's packets and gossip from one of its addresses to another.
type mover struct {
	at      atomic.Pointer[netip.Addr] // where they leave from
	packets func(to netip.Addr) error  // if it fails, some may leave from there
	gossip  func(to netip.Addr) error  // if it fails, nothing has changed
	halfway bool                       // a move failed: packets may leave from elsewhere
}

// follow goes where this host's address goes, until the context ends. Containers notice no more than a pause.
func (m *mover) follow(ctx context.Context, source hostaddr.Source, log logrus.FieldLogger) {
	changes, err := hostaddr.Watch(ctx)
	if err != nil {
		log.WithError(err).Error("overlane can't follow this host's address: restart it where that changes")
		return
	}
	choice := hostaddr.NewChoice(source)
	var again <-chan time.Time
	before := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
		case <-again:
		}
		again = nil
		lacks := ""
		next, wait, err := choice.Next(m.address(), time.Now())
		if wait > 0 {
			again = time.After(wait)
		}
		if err == nil {
			if err = m.move(next); err != nil {
				again = time.After(moveAgain)
			}
		}
		if err != nil {
			lacks = err.Error()
		}
		switch {
		case lacks == before:
		case lacks != "":
			log.WithError(err).Warnf("the others can't reach this host at %s: it needs an address that overlane can take", m.address())
		default:
			log.Infof("the others reach this host at %s again", m.address())
		}
		before = lacks
	}
}

// move goes to an address. To the present one it goes back, after a move that failed.
func (m *mover) move(to netip.Addr) error {
	if to == m.address() && !m.halfway {
		return nil
	}
	m.halfway = true
	if err := m.packets(to); err != nil {
		return err
	}
	if to != m.address() {
		if err := m.gossip(to); err != nil {
			return err
		}
	}
	m.at.Store(&to)
	m.halfway = false
	return nil
}

// address is this host's own for VXLAN.
func (m *mover) address() netip.Addr { return *m.at.Load() }
