package keyexchange

import (
	"crypto/ecdh"
	"crypto/rand"
	"slices"
	"time"
)

const (
	// keep is how long a key receives after it was replaced: longer than any packet is on its way.
	keep = 30 * time.Second
	// maxKeys is how many keys each side of a pair has at most: the datapath takes 16 SAs to receive.
	maxKeys = 4
	// replyPause is between two messages to a host: those it causes by its own are no more.
	replyPause = 100 * time.Millisecond
	// A message that wants a word back is sent again after a second, then after twice as long each time, and every ten seconds in the end.
	againFirst = time.Second
	againMax   = 10 * time.Second
)

// key is one that this host made for a peer, or the peer's. Of a peer's there is no private one.
type key struct {
	publicKey
	private  *ecdh.PrivateKey
	since    time.Time
	replaced time.Time // when nobody sent with it any more; zero: somebody may
}

func (k *key) expires() time.Time {
	if k.replaced.IsZero() {
		return time.Time{}
	}
	return k.replaced.Add(keep)
}

type pair struct{ own, theirs *key }

// peer is another host, with all keys of the pair and the SAs made of them: they live and die together.
type peer struct {
	id     string
	since  time.Time
	heard  number // of the last message that counted
	last   time.Time
	own    []*key // the newest last
	theirs []*key // the newest last
	// What the peer said last: whether it has our newest key, and whether it knows that we have its newest.
	acked, known bool
	wish         bool // a new key is wanted as soon as the peer has the one before

	// Out of all pairs this host sends with one, and never goes back to one that it left: its SA is gone.
	sending *key // own
	sure    bool // the peer has it
	outPair pair
	out     *SA
	in      map[pair]*SA
	changed bool // out or in are others than were told

	sent  time.Time // the last message
	next  time.Time // the next one; zero: none is due
	tries int
}

func (p *peer) newest() *key { return p.own[len(p.own)-1] }

func (p *peer) theirNewest() *key {
	if len(p.theirs) == 0 {
		return nil
	}
	return p.theirs[len(p.theirs)-1]
}

// settled says that neither side has a question left.
func (p *peer) settled() bool { return p.acked && p.known }

// renew makes a new key of this host's. SAs to receive with it come before it is announced.
func (e *Exchange) renew(now time.Time, p *peer) {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	k := &key{publicKey: publicKey{start: e.start, made: e.number(now), size: e.size}, private: private, since: now}
	copy(k.key[:], private.PublicKey().Bytes())
	p.own = append(p.own, k)
	p.acked, p.wish = false, false
	for len(p.own) > maxKeys {
		p.forget(p.own[0])
	}
	for _, theirs := range p.theirs {
		if sa, err := e.derive(p, pair{k, theirs}, false, now); err == nil { // what is wrong with theirs was seen when it came
			p.in[pair{k, theirs}] = sa
		}
	}
	p.changed = true
	p.hurry(now)
}

// derive makes the SA of a pair for one direction.
func (e *Exchange) derive(p *peer, of pair, out bool, now time.Time) (*SA, error) {
	here, there := party{e.self, &of.own.publicKey}, party{p.id, &of.theirs.publicKey}
	if out {
		return derive(of.own.private, there.key, here, there, now)
	}
	return derive(of.own.private, there.key, there, here, now)
}

// take makes a key the peer's newest, or says what is wrong with it and changes nothing.
func (e *Exchange) take(now time.Time, p *peer, public publicKey) error {
	k := &key{publicKey: public, since: now}
	in := map[pair]*SA{}
	for _, own := range p.own {
		sa, err := e.derive(p, pair{own, k}, false, now)
		if err != nil {
			return err
		}
		in[pair{own, k}] = sa
	}
	for of, sa := range in {
		p.in[of] = sa
	}
	p.theirs = append(p.theirs, k)
	for len(p.theirs) > maxKeys {
		p.forget(p.theirs[0])
	}
	p.changed = true
	return nil
}

// forget wipes a key of either side, and the SAs made of it.
func (p *peer) forget(k *key) {
	is := func(other *key) bool { return other == k }
	p.own, p.theirs = slices.DeleteFunc(p.own, is), slices.DeleteFunc(p.theirs, is)
	for of, sa := range p.in {
		if of.own == k || of.theirs == k {
			sa.Wipe()
			delete(p.in, of)
		}
	}
	k.private = nil
	p.changed = true
}

// expire forgets the keys whose time is over.
func (p *peer) expire(now time.Time) {
	for _, k := range slices.Concat(p.own, p.theirs) {
		if at := k.expires(); !at.IsZero() && !now.Before(at) {
			p.forget(k)
		}
	}
}

// replace says that nobody sends with the keys before the last any more.
func replace(keys []*key, now time.Time) {
	for _, k := range keys[:max(0, len(keys)-1)] {
		if k.replaced.IsZero() {
			k.replaced = now
		}
	}
}

// choose makes the SA with which this host sends: that of its newest key which the peer has, and of the peer's newest. Before the peer has said what it
// has, the newest is worth a try.
func (e *Exchange) choose(now time.Time, p *peer) {
	if p.sending == nil {
		p.sending = p.newest()
	}
	of := pair{p.sending, p.theirNewest()}
	if of.theirs == nil || of == p.outPair {
		return
	}
	sa, err := e.derive(p, of, true, now)
	if err != nil {
		return // seen when theirs came
	}
	if p.out != nil {
		p.out.Wipe()
	}
	p.outPair, p.out, p.changed = of, sa, true
}

// wanted lists what is to be in force, SAs of newer keys first.
func (p *peer) wanted() PeerSAs {
	w := PeerSAs{Peer: p.id, Out: p.out}
	for _, own := range slices.Backward(p.own) {
		for _, theirs := range slices.Backward(p.theirs) {
			if sa := p.in[pair{own, theirs}]; sa != nil {
				w.In = append(w.In, sa)
			}
		}
	}
	return w
}

// hurry has a message sent as soon as may be.
func (p *peer) hurry(now time.Time) {
	p.tries = 0
	p.next = now
	if soonest := p.sent.Add(replyPause); !p.sent.IsZero() && now.Before(soonest) {
		p.next = soonest
	}
}

// wipe ends all.
func (p *peer) wipe() {
	for _, k := range slices.Concat(p.own, p.theirs) {
		p.forget(k)
	}
	if p.out != nil {
		p.out.Wipe()
	}
}
