// Package keyexchange agrees with other hosts on the keys that encrypt containers' packets between them. It is a step core: no clock, no goroutine, no
// I/O.
//
// Each host has X25519 keys of its own for each other host, and tells it the newest one. Whatever either needs to know of the other is in every
// message, which are numbered: the last one counts, and all that is lost, late, doubled or played back changes nothing. Every pair of a key of this
// host's and one of the other's gives an SA in each direction. What holds at any time:
//
//   - A host tells of a key when it receives with it, so the other may use it at once.
//   - A host sends with its newest key that the other has said to have. Only before the other has said anything, or when it has begun anew, and after
//     Renounce, it sends with its newest without a word.
//   - A key receives until it is known that nobody sends with it, or to it, any more, and for half a minute after that: the owner knows it
//     when the other has its next key, and the other when the owner has said that it knows so.
//   - There is a next key when the other has the one before: so there are no more than two that may be in use.
//   - No SA comes twice: a host never goes back to a pair that it sent with before, a key that was forgotten never comes back, since the
//     other's generations grow, and the generations are part of what is derived.
//
// Messages are authentic by the cluster's token, by which members trust each other: whoever has it can pass for any of them.
package keyexchange

import (
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"time"
)

// Config says how to make an Exchange.
type Config struct {
	Self       string // this host's node ID
	Start      uint64 // of the daemon: above that of each earlier one. See Begin
	KeySize    int    // bytes of the cipher's keys: 16 or 32. Of two hosts the one that wants more counts
	RekeyAfter time.Duration
}

// Exchange is this host's side of all exchanges. Its methods give what is to be done: SAs are put into force before the messages are sent, and those of
// a host whose SAs could not be put into force are not sent: a key is announced when this host receives with it. What is lost is sent again.
type Exchange struct {
	self       string
	start      uint64
	size       int
	rekeyAfter time.Duration
	last       uint64 // number that was used
	peers      map[string]*peer
}

// Output is what is to be done, in this order.
type Output struct {
	SAs      []PeerSAs
	Messages []Message
}

// PeerSAs are those that are to be in force with a peer from now on, in place of the ones before.
type PeerSAs struct {
	Peer string
	Out  *SA // nil: none yet, or the peer is none any more
	In   []*SA
}

// Message is one to another host.
type Message struct {
	To   string
	Text []byte
}

// New has no peers.
func New(cfg Config) *Exchange {
	return &Exchange{self: cfg.Self, start: cfg.Start, size: cfg.KeySize, rekeyAfter: cfg.RekeyAfter, peers: map[string]*peer{}}
}

// number is above all that this host has used: by the time, so that it is so too when the host goes on from an old snapshot.
func (e *Exchange) number(now time.Time) uint64 {
	e.last = max(e.last+1, uint64(max(0, now.UnixMilli())))
	return e.last
}

// SetPeers says with which hosts keys are to be exchanged. All that was agreed with others is forgotten.
func (e *Exchange) SetPeers(now time.Time, ids []string) (out Output) {
	for _, id := range slices.Sorted(maps.Keys(e.peers)) {
		if !slices.Contains(ids, id) {
			e.peers[id].wipe()
			delete(e.peers, id)
			out.SAs = append(out.SAs, PeerSAs{Peer: id})
		}
	}
	for _, id := range ids {
		if e.peers[id] == nil {
			p := &peer{id: id, since: now, in: map[pair]*SA{}}
			e.peers[id] = p
			e.renew(now, p)
			e.settle(now, p, &out)
		}
	}
	return out
}

// Tick does what is due: see Next.
func (e *Exchange) Tick(now time.Time) (out Output) {
	e.each(func(p *peer) {
		p.expire(now)
		e.settle(now, p, &out)
	})
	return out
}

// Rekey gives a peer a new key, as soon as it has the one before.
func (e *Exchange) Rekey(now time.Time, id string) (out Output) {
	if p := e.peers[id]; p != nil {
		p.wish = true
		e.settle(now, p, &out)
	}
	return out
}

// Renounce gives every peer a new key at once, and never sends with the ones before again: another copy of this host may do so.
func (e *Exchange) Renounce(now time.Time) (out Output) {
	e.each(func(p *peer) {
		e.renew(now, p)
		p.sending, p.sure = p.newest(), false
		e.settle(now, p, &out)
	})
	return out
}

// Begin has all messages from now on count as those of a later start, where it is one: this host went back to an older state, and the others have heard
// what it said after that. Keys are made anew.
func (e *Exchange) Begin(now time.Time, start uint64) (out Output) {
	if start > e.start {
		e.start = start
		out = e.Renounce(now)
	}
	return out
}

func (e *Exchange) each(do func(*peer)) {
	for _, id := range slices.Sorted(maps.Keys(e.peers)) {
		do(e.peers[id])
	}
}

// Receive takes a message. One of a host that is no peer, or not in the order in which they were sent, is passed over. After an error nothing has
// changed.
func (e *Exchange) Receive(now time.Time, from string, text []byte) (out Output, err error) {
	m, err := decode(text)
	if err != nil {
		return out, err
	}
	if m.to != e.self {
		return out, fmt.Errorf("it is for node %q", m.to)
	}
	p := e.peers[from]
	if p == nil || !p.heard.before(m.number) {
		return out, nil
	}
	isNew, err := p.check(m)
	if err != nil {
		return out, err
	}
	restarted := !p.last.IsZero() && p.heard.start != m.number.start
	if isNew {
		if err := e.take(now, p, m.key); err != nil {
			return out, err
		}
	}
	p.heard, p.last = m.number, now
	if restarted {
		e.renew(now, p)
		p.sending, p.sure = nil, false // nobody knows what it has
	}
	p.hear(now, m)
	switch {
	case isNew || m.reply || !p.acked:
		p.hurry(now)
	case p.settled():
		p.next = time.Time{}
	}
	e.settle(now, p, &out)
	return out, nil
}

// check says whether the key in a message that is the newest of its sender is a new one.
func (p *peer) check(m *message) (isNew bool, err error) {
	newest := p.theirNewest()
	switch {
	case newest == nil || newest.before(&m.key):
		if newest != nil && newest.key == m.key.key {
			return false, errors.New("an old key is said to be new")
		}
		return true, nil
	case newest.publicKey != m.key:
		return false, errors.New("a key of an older generation, or another one of the same")
	}
	return false, nil
}

// hear takes what the peer says of what it has. Keys that it does not send with any more, or that it has newer ones for, are replaced.
func (p *peer) hear(now time.Time, m *message) {
	own := p.newest()
	p.acked = m.heard == own.fingerprint()
	if p.acked {
		p.sending, p.sure = own, true
		replace(p.own, now)
	}
	// A peer that knows nothing of this host's keys has nothing to confirm: it says so of the key that this host has from it now.
	if p.known = m.known; p.known {
		replace(p.theirs, now)
	}
}

// settle brings a peer to where it is to be by now.
func (e *Exchange) settle(now time.Time, p *peer, out *Output) {
	if p.acked && (p.wish || !now.Before(e.due(p))) {
		e.renew(now, p)
	}
	e.choose(now, p)
	if p.changed {
		p.changed = false
		out.SAs = append(out.SAs, p.wanted())
	}
	if !p.next.IsZero() && !now.Before(p.next) {
		out.Messages = append(out.Messages, Message{p.id, e.say(now, p)})
	}
}

// due is when a peer's key is to be a new one: up to an eighth sooner than it must, so that hosts that came together do not all want one at once.
func (e *Exchange) due(p *peer) time.Time {
	h := fnv.New32a()
	h.Write([]byte(e.self + p.id))
	return p.newest().since.Add(e.rekeyAfter - e.rekeyAfter/8*time.Duration(h.Sum32()%256)/256)
}

// say is the message that is due now, and settles when the next one is.
func (e *Exchange) say(now time.Time, p *peer) []byte {
	m := message{to: p.id, number: number{e.start, e.number(now)}, key: p.newest().publicKey, known: p.acked, reply: !p.settled()}
	if theirs := p.theirNewest(); theirs != nil {
		m.heard = theirs.fingerprint()
	}
	p.sent, p.next = now, time.Time{}
	if !p.settled() {
		p.next = now.Add(min(againFirst<<min(p.tries, 10), againMax))
		p.tries++
	}
	return m.encode()
}

// Next is when Tick has something to do; zero: nothing.
func (e *Exchange) Next() (next time.Time) {
	note := func(at time.Time) {
		if next.IsZero() || !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	for _, p := range e.peers {
		note(p.next)
		if p.acked {
			note(e.due(p))
		}
		for _, k := range slices.Concat(p.own, p.theirs) {
			note(k.expires())
		}
	}
	return next
}

// PeerStatus is how it stands with a peer.
type PeerStatus struct {
	Since time.Time // it is a peer
	Heard time.Time // its last message; zero: none
	Out   *SA       // with which this host sends; nil: none
	Sure  bool      // the peer has said that it can open that
	Asked time.Time // since when it owes a word on this host's newest key; zero: it does not
}

// Status is how it stands with each peer.
func (e *Exchange) Status() map[string]PeerStatus {
	all := make(map[string]PeerStatus, len(e.peers))
	for id, p := range e.peers {
		s := PeerStatus{Since: p.since, Heard: p.last, Out: p.out, Sure: p.sure}
		if !p.acked {
			s.Asked = p.newest().since
		}
		all[id] = s
	}
	return all
}
