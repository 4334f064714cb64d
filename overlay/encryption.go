package overlay

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/overlay/keyexchange"
)

const (
	// rekeyAfter is how long a key is used: a day's traffic is not behind one key, and the exchange costs next to nothing.
	rekeyAfter = time.Hour
	// cipherSize is that of AES-128, as in Docker's own overlay, in bytes.
	cipherSize = 16
	// encryptionInterval is between two looks at what the keys depend on.
	encryptionInterval = time.Second
	// Messages about keys that wait to be looked at. Beyond them they are dropped, and come again.
	keyInbox = 1024
)

// encryption exchanges keys with the hosts that have a part in an encrypted network here, and has the datapath use them.
type encryption struct {
	inbox   chan keyMessage
	changed chan struct{} // who is to be exchanged with may have
	packets func(*datapath.SA) uint64
	offset  func() time.Duration   // see clockOffset
	self    atomic.Pointer[string] // as the cluster knows this host; nil before attach

	mu       sync.Mutex // guards all below
	exchange *keyexchange.Exchange
	peers    map[string]netip.AddrPort // VTEPs by member ID
	links    map[netip.AddrPort]*link
	tokens   []discovery.Fingerprint // that let others in
	clock    time.Duration           // offset since which the keys in use were made
	looked   time.Time
}

type keyMessage struct {
	from string
	text []byte
}

func newEncryption() *encryption {
	return &encryption{
		inbox: make(chan keyMessage, keyInbox), changed: make(chan struct{}, 1), packets: (*datapath.SA).Packets, offset: clockOffset,
		peers: map[string]netip.AddrPort{}, links: map[netip.AddrPort]*link{},
	}
}

// attach begins the exchange, as the node that the cluster knows. It is called with o.mu held.
func (e *encryption) attach(cfg *Config, self discovery.Member) {
	e.mu.Lock()
	defer e.mu.Unlock()
	size := cmp.Or(cfg.Cipher, cipherSize)
	e.self.Store(&self.ID)
	e.exchange = keyexchange.New(keyexchange.Config{Self: self.ID, Start: self.Incarnation, KeySize: size, RekeyAfter: rekeyAfter})
}

// receive takes a message about keys. It never waits. One for another host may be a stranger's, who has recorded it.
func (e *encryption) receive(from string, text []byte) {
	if self := e.self.Load(); self == nil || !keyexchange.IsFor(*self, text) {
		return // it comes again
	}
	select {
	case e.inbox <- keyMessage{from, text}:
	default:
	}
}

// look has the exchange see soon who is there.
func (e *encryption) look() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// runEncryption exchanges keys until the overlay is closed; what was agreed is wiped then. With nobody to exchange with it sleeps.
func (o *Overlay) runEncryption() {
	e := o.encryption
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-o.ctx.Done():
			o.endEncryption()
			return
		case m := <-e.inbox:
			o.stepEncryption(func(now time.Time) keyexchange.Output { return o.hearKey(now, m) })
		case <-e.changed:
			o.lookAtEncryption()
		case <-timer.C:
			if time.Since(e.looked) >= encryptionInterval {
				o.lookAtEncryption()
			} else {
				o.stepEncryption(e.exchange.Tick)
			}
		}
		if next := e.next(); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
	}
}

// next is when there is something to do; zero: nothing.
func (e *encryption) next() (next time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.links) == 0 {
		return time.Time{}
	}
	return earlier(e.looked.Add(encryptionInterval), e.exchange.Next())
}

// stepEncryption runs the exchange, and does what it wants done: SAs before the messages that tell of them.
func (o *Overlay) stepEncryption(step func(now time.Time) keyexchange.Output) {
	e := o.encryption
	e.mu.Lock()
	out := step(time.Now())
	for _, s := range out.SAs {
		if l := e.links[e.peers[s.Peer]]; l != nil {
			l.want(s)
		}
	}
	e.program(o.cfg.Datapath, o.log)
	messages := slices.DeleteFunc(out.Messages, func(m keyexchange.Message) bool {
		l := e.links[e.peers[m.To]]
		return l == nil || l.dirty // it comes again
	})
	e.mu.Unlock()
	for _, m := range messages {
		if err := o.cluster.Send(m.To, m.Text); err != nil {
			o.log.WithError(err).WithField("to", m.To).Debug("a message about keys was not sent")
		}
	}
}

func (o *Overlay) hearKey(now time.Time, m keyMessage) keyexchange.Output {
	out, err := o.encryption.exchange.Receive(now, m.from, m.text)
	if err != nil {
		o.log.WithError(err).WithField("from", m.from).Warn("dropped a message about keys")
	}
	return out
}

// lookAtEncryption sees who is to be exchanged with, and whether something wants new keys.
func (o *Overlay) lookAtEncryption() {
	e := o.encryption
	self := o.cluster.Self()
	peers, vteps := o.encryptedPeers(self)
	steps := []func(now time.Time) keyexchange.Output{
		func(now time.Time) keyexchange.Output { return e.exchange.Begin(now, self.Incarnation) },
		func(now time.Time) keyexchange.Output { return o.renewKeys(now, self.Keys) },
		func(now time.Time) keyexchange.Output { return e.meet(now, peers, vteps) },
		func(now time.Time) keyexchange.Output { return e.exchange.Tick(now) },
	}
	for _, step := range steps {
		o.stepEncryption(step)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.looked = time.Now()
	e.tell(o.log)
}

// encryptedPeers are the hosts with a part in an encrypted network of this host's, and all VTEPs with one, each with the host there; one of a VTEP that speaks
// no gossip has no ID. In a cluster that is open to everybody keys would come from anybody: there nobody is exchanged with.
func (o *Overlay) encryptedPeers(self discovery.Member) (peers map[string]netip.AddrPort, vteps map[netip.AddrPort]discovery.Member) {
	peers, vteps = map[string]netip.AddrPort{}, map[netip.AddrPort]discovery.Member{}
	o.mu.RLock()
	for _, n := range o.networks {
		if n.Encrypted {
			for _, vtep := range n.remotes.allVTEPs() {
				vteps[vtep] = discovery.Member{}
			}
		}
	}
	o.mu.RUnlock()
	if len(vteps) == 0 {
		return peers, vteps
	}
	at := memberAt(o.cluster.Members())
	for vtep := range vteps {
		if m, known := at[vtep]; known {
			vteps[vtep] = m
			if len(self.Keys) > 0 {
				peers[m.ID] = vtep
			}
		}
	}
	return peers, vteps
}

// meet says with whom keys are exchanged from now on. A host that is at another VTEP is another one: its SAs are of the VTEP.
func (e *encryption) meet(now time.Time, peers map[string]netip.AddrPort, vteps map[netip.AddrPort]discovery.Member) (out keyexchange.Output) {
	for vtep, m := range vteps {
		if e.links[vtep] == nil {
			e.links[vtep] = newLink(vtep, now)
		}
		e.links[vtep].meet(m, now)
	}
	for vtep, l := range e.links {
		_, l.needed = vteps[vtep]
	}
	if maps.Equal(peers, e.peers) {
		return out
	}
	var stay []string
	for id, vtep := range e.peers {
		if peers[id] == vtep {
			stay = append(stay, id)
		}
	}
	for _, s := range e.exchange.SetPeers(now, stay).SAs {
		e.links[e.peers[s.Peer]].want(s)
	}
	e.peers = peers
	return e.exchange.SetPeers(now, slices.Sorted(maps.Keys(peers)))
}

// renewKeys has new keys made where the old ones have been used enough, or others may know them: a copy of this host, or who had the token that lets nobody
// in any more.
func (o *Overlay) renewKeys(now time.Time, tokens []discovery.Fingerprint) (out keyexchange.Output) {
	e := o.encryption
	offset := e.offset()
	jumped := (offset - e.clock).Abs() > clockJump
	rotated := slices.ContainsFunc(e.tokens, func(f discovery.Fingerprint) bool { return !slices.Contains(tokens, f) })
	e.tokens = slices.Clone(tokens)
	if jumped || len(e.peers) == 0 {
		e.clock = offset
	}
	if jumped && len(e.peers) > 0 {
		o.log.Warn("this host's clock was set, or the host goes on from a snapshot: all keys for encrypted networks are made anew, since a copy of this host may use those it had")
		return e.exchange.Renounce(now)
	}
	peers := e.exchange.Status()
	for _, id := range slices.Sorted(maps.Keys(e.peers)) {
		sa, underWay := e.links[e.peers[id]].sending(), !peers[id].Asked.IsZero()
		if rotated || sa != nil && !underWay && e.packets(sa) >= datapath.MaxPackets/2 {
			next := e.exchange.Rekey(now, id)
			out.SAs, out.Messages = append(out.SAs, next.SAs...), append(out.Messages, next.Messages...)
		}
	}
	return out
}

// endEncryption wipes all that was agreed.
func (o *Overlay) endEncryption() {
	o.stepEncryption(func(now time.Time) keyexchange.Output {
		return o.encryption.meet(now, map[string]netip.AddrPort{}, map[netip.AddrPort]discovery.Member{})
	})
}
