package main

import (
	"context"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/internal/hostaddr"
)

// How long to wait before a move that failed is tried again: IPv6 has an address looked for on the link first (RFC 4862).
const moveAgain = time.Second

// follow goes where this host's address goes, until the context ends. Containers notice no more than a pause.
func (n *node) follow(ctx context.Context, source hostaddr.Source, log logrus.FieldLogger) {
	changes, err := hostaddr.Watch(ctx)
	if err != nil {
		log.WithError(err).Error("overlane can't follow this host's address: restart it where that changes")
		return
	}
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
		next, err := source.Next(n.address())
		if err == nil && next != n.address() {
			if err = n.move(next); err != nil {
				again = time.After(moveAgain)
			}
		}
		if err != nil {
			lacks = err.Error()
		}
		switch {
		case lacks == before:
		case lacks != "":
			log.WithError(err).Warnf("this host has %s no more: the others can't reach it until it has an address that overlane can take", n.address())
		default:
			log.Infof("the others reach this host at %s again", n.address())
		}
		before = lacks
	}
}

// move takes packets and gossip to another address.
func (n *node) move(to netip.Addr) error {
	if err := n.datapath.Move(to); err != nil {
		return err
	}
	advertise := to
	if n.advertise.IsValid() {
		advertise = n.advertise
	}
	if err := n.cluster.Move(to, advertise); err != nil {
		return err
	}
	n.at.Store(&to)
	return nil
}

// address is this host's own for VXLAN.
func (n *node) address() netip.Addr { return *n.at.Load() }
