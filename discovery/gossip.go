package discovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// How memberlist is run. A crashed member is missed by the next probe, suspected,
// and dead after suspicionMult * max(1, log10(members)) * probeInterval: 4 s up to
// ten members, 12 s with a thousand; up to maxSuspicionMult times as long while
// few others suspect it too.
const (
	probeInterval    = time.Second
	gossipInterval   = 500 * time.Millisecond // only of who comes and goes; to wake for it is half of what an idle daemon does
	suspicionMult    = 4
	maxSuspicionMult = 3
	pushPullInterval = 15 * time.Second
	reclaimAfter     = time.Second // a dead member may come back at another address
	dialTimeout      = 5 * time.Second
	maxInbox         = 64 << 20 // bytes of messages not yet looked at
	maxStreamQueue   = 64       // messages on their way to one member over streams
	metaRepeats      = 4
	pingTries        = 2                       // each as long as memberlist waits for a probe, half a second
	pingPatience     = 1500 * time.Millisecond // all of them, and a stream on a slow host
)

// gossip is the shell around memberlist: it turns what memberlist tells into
// events for the core, and carries the core's messages.
type gossip struct {
	cluster   *Cluster
	ctx       context.Context
	address   atomic.Pointer[netip.AddrPort] // own, as others reach it
	transport memberlist.NodeAwareTransport
	listen    listener
	list      atomic.Pointer[memberlist.Memberlist]
	telling   *listEvents // of that list
	formerly  sync.Map    // own addresses before, netip.AddrPort
	inbox     inbox

	keyring *memberlist.Keyring // nil: gossip is not encrypted

	metaMu sync.Mutex
	meta   meta

	updating chan struct{} // has room for the one who calls memberlist's UpdateNode, which is not safe beside another call

	streamsMu    sync.Mutex
	streamQueues map[recipient][][]byte // one that has moved does not wait for what goes to its former address

	listMu sync.Mutex // leave and shutdown exclude each other
	down   bool
}

// newGossip takes the node's place on the network.
func newGossip(ctx context.Context, c *Cluster, m meta, listen listener) (*gossip, error) {
	g := &gossip{cluster: c, ctx: ctx, listen: listen, meta: m, streamQueues: map[recipient][][]byte{}, updating: make(chan struct{}, 1)}
	g.inbox.notify = func() { signal(c.wake) }
	if b, err := encodeMeta(m); err != nil || len(b) > maxMeta {
		return nil, fmt.Errorf("host name %q does not fit into the %d bytes every node announces", m.host, maxMeta)
	}
	var err error
	if len(c.keys.tokens) > 0 {
		g.keyring = &memberlist.Keyring{}
		if err := g.installKeys(c.keys.tokens); err != nil {
			return nil, err
		}
	}
	var port uint16
	if g.transport, port, err = listen(ctx, c.cfg.Bind, c.memberlistLogger()); err != nil {
		return nil, fmt.Errorf("cannot listen for gossip on %s: %w", c.cfg.Bind, err)
	}
	address := netip.AddrPortFrom(c.cfg.Advertise.Unmap(), port)
	g.address.Store(&address)
	return g, nil
}

// start creates the memberlist; it knows only this node yet.
func (g *gossip) start() error {
	events := &listEvents{gossip: g}
	list, err := g.newList(g.transport, *g.address.Load(), events)
	if err != nil {
		return err
	}
	g.telling = events
	g.list.Store(list)
	return nil
}

// newList makes a memberlist at an address. It ends the transport if it fails.
func (g *gossip) newList(transport memberlist.NodeAwareTransport, address netip.AddrPort, events *listEvents) (*memberlist.Memberlist, error) {
	conf := memberlist.DefaultLANConfig()
	conf.Name = g.cluster.identity.id.String()
	conf.Transport = transport
	conf.BindPort = int(address.Port())
	conf.AdvertiseAddr = address.Addr().String()
	conf.AdvertisePort = int(address.Port())
	conf.TCPTimeout = dialTimeout
	conf.ProbeInterval = probeInterval
	conf.GossipInterval = gossipInterval
	conf.SuspicionMult = suspicionMult
	conf.SuspicionMaxTimeoutMult = maxSuspicionMult
	conf.PushPullInterval = pushPullInterval
	conf.DeadNodeReclaimTime = reclaimAfter
	conf.EnableCompression = false
	conf.Keyring = g.keyring
	conf.Delegate = g
	conf.Events = events
	conf.Alive = g
	conf.Merge = g
	conf.Conflict = g
	conf.Logger = g.cluster.memberlistLogger()
	list, err := memberlist.Create(conf)
	if err != nil {
		transport.Shutdown()
		return nil, fmt.Errorf("memberlist: %w", err)
	}
	return list, nil
}

// ping reports whether the member answers, in a datagram or over a stream.
func (g *gossip) ping(m Member) bool {
	answers := make(chan bool, 2)
	go func() {
		_, err := g.list.Load().Join([]string{m.Addr.String()})
		answers <- err == nil
	}()
	go func() {
		var err error
		for range pingTries {
			if _, err = g.list.Load().Ping(m.ID, net.UDPAddrFromAddrPort(m.Addr)); err == nil {
				break
			}
		}
		answers <- err == nil
	}()
	patience := time.After(pingPatience)
	for range cap(answers) {
		select {
		case answered := <-answers:
			if answered {
				return true
			}
		case <-patience:
			return false
		}
	}
	return false
}

func (g *gossip) leave(timeout time.Duration) error {
	g.listMu.Lock()
	defer g.listMu.Unlock()
	if g.down {
		return nil
	}
	return g.list.Load().Leave(max(timeout, time.Millisecond))
}

func (g *gossip) shutdown() error {
	g.listMu.Lock()
	defer g.listMu.Unlock()
	g.down = true
	return g.list.Load().Shutdown()
}

// setMeta changes what membership tells of this node, and sees to it that the others hear.
func (g *gossip) setMeta(change func(*meta)) {
	g.changeMeta(change)
	g.spreadMeta()
}

func (g *gossip) changeMeta(change func(*meta)) {
	g.metaMu.Lock()
	defer g.metaMu.Unlock()
	change(&g.meta)
}

// spreadMeta tells the others of this node's meta. In a small cluster the few
// copies that memberlist sends may all go to the same peer, hence the repetition.
func (g *gossip) spreadMeta() {
	g.cluster.wg.Go(func() {
		for range metaRepeats {
			g.update(probeInterval)
			select {
			case <-g.ctx.Done():
				return
			case <-time.After(probeInterval):
			}
		}
	})
}

// update puts the meta into this node's entry, and waits so long until it has been gossiped.
func (g *gossip) update(patience time.Duration) {
	g.updating <- struct{}{}
	defer func() { <-g.updating }()
	g.list.Load().UpdateNode(patience)
}

// NodeMeta implements memberlist.Delegate.
func (g *gossip) NodeMeta(int) []byte {
	g.metaMu.Lock()
	defer g.metaMu.Unlock()
	b, _ := encodeMeta(g.meta) // newGossip has seen it succeed
	return b
}

// NotifyMsg implements memberlist.Delegate.
func (g *gossip) NotifyMsg(b []byte) {
	if !g.inbox.add(message(bytes.Clone(b))) {
		g.cluster.reject("inbox_full")
	}
}

// GetBroadcasts implements memberlist.Delegate: records do not travel so.
func (g *gossip) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate: records do not travel so.
func (g *gossip) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (g *gossip) MergeRemoteState([]byte, bool) {}

// NotifyAlive implements memberlist.AliveDelegate: whoever is no overlane node of
// this cluster does not become a member.
func (g *gossip) NotifyAlive(n *memberlist.Node) error {
	m, err := memberOf(n)
	if err != nil {
		g.cluster.reject("member")
		return err
	}
	if m.address == *g.address.Load() && m.id != g.cluster.identity.id && g.cluster.limiter.allow("same address "+n.Name) {
		g.cluster.log.Errorf("host %s (%s) advertises %s, as this one does: unless it is this host before it was set up anew, give each host an --advertise of its own",
			m.meta.host, m.id, m.address)
	}
	err = g.cluster.affiliation.admit(m)
	if errors.Is(err, errCrowd) {
		g.cluster.reject(reasonHosts)
		if g.cluster.limiter.allow(reasonHosts) {
			g.cluster.log.Errorf("refused a host: %v", err)
		}
	}
	return err
}

// NotifyMerge implements memberlist.MergeDelegate.
func (g *gossip) NotifyMerge(nodes []*memberlist.Node) error {
	var members []memberUpEvent
	for _, n := range nodes {
		if m, err := memberOf(n); err == nil && (n.State == memberlist.StateAlive || n.State == memberlist.StateSuspect) {
			members = append(members, m)
		}
	}
	return g.cluster.affiliation.merge(members)
}

// NotifyConflict implements memberlist.ConflictDelegate.
func (g *gossip) NotifyConflict(_, other *memberlist.Node) {
	m, err := memberOf(other)
	if err != nil || m.id != g.cluster.identity.id {
		return
	}
	_, former := g.formerly.Load(m.address) // who knows this node there has yet to hear that it has moved; a twin there hears of this one, and asks
	if !former {
		g.cluster.doubted.Store(true)
	}
	g.inbox.add(conflict{m.address, former})
}

// memberOf reads what memberlist knows of a node.
func memberOf(n *memberlist.Node) (memberUpEvent, error) {
	id, err := parseNodeID(n.Name)
	if err != nil {
		return memberUpEvent{}, err
	}
	m, err := decodeMeta(n.Meta)
	if err != nil {
		return memberUpEvent{}, err
	}
	ip, ok := netip.AddrFromSlice(n.Addr)
	if !ok {
		return memberUpEvent{}, fmt.Errorf("gossip address of %d bytes", len(n.Addr))
	}
	return memberUpEvent{id, m, netip.AddrPortFrom(ip.Unmap(), n.Port)}, nil
}

// rejectMessage counts a message that could not be taken.
func (c *Cluster) rejectMessage(err error) {
	r := err.(*rejection)
	c.reject(r.reason)
	if c.limiter.allow("message " + r.reason) {
		c.log.Warnf("dropped a gossip message: %v", r)
	}
}

func (g *gossip) send(s *send) {
	s.packet.claim = g.cluster.affiliation.claim()
	b, err := encodePacket(s.packet)
	if err != nil || len(b) > maxMessage {
		g.cluster.log.Errorf("a gossip message of %d bytes cannot be sent: %v", len(b), err)
		return
	}
	g.cluster.metrics.count("out", s.packet, len(b), len(s.to))
	for _, to := range s.to {
		if s.reliable {
			g.sendReliable(to, b)
			continue
		}
		a := memberlist.Address{Addr: to.address.String(), Name: to.id.String()}
		if err := g.list.Load().SendToAddress(a, b); err != nil {
			g.cluster.log.Debugf("gossip to %s: %v", to.address, err)
		}
	}
}

// sendReliable sends over a stream, one at a time to each member: one that does
// not read holds up nobody else, and what does not get through is repaired.
func (g *gossip) sendReliable(to recipient, b []byte) {
	g.streamsMu.Lock()
	defer g.streamsMu.Unlock()
	waiting, busy := g.streamQueues[to]
	if len(waiting) >= maxStreamQueue {
		g.cluster.reject("stream_queue_full")
		return
	}
	g.streamQueues[to] = append(waiting, b)
	if !busy {
		g.cluster.wg.Go(func() { g.drain(to) })
	}
}

func (g *gossip) drain(to recipient) {
	for {
		g.streamsMu.Lock()
		waiting := g.streamQueues[to]
		if len(waiting) == 0 {
			delete(g.streamQueues, to)
			g.streamsMu.Unlock()
			return
		}
		g.streamQueues[to] = waiting[1:]
		g.streamsMu.Unlock()
		g.sendStream(to, waiting[0])
	}
}

// sendStream sends over a stream, and waits until that is done.
func (g *gossip) sendStream(to recipient, b []byte) {
	node := &memberlist.Node{Name: to.id.String(), Addr: to.address.Addr().AsSlice(), Port: to.address.Port()}
	if err := g.list.Load().SendReliable(node, b); err != nil {
		g.cluster.log.Debugf("gossip to %s: %v", to.address, err)
	}
}

// inbox holds what memberlist told until the run loop takes it. It is filled
// under memberlist's locks, so that it never waits.
type inbox struct {
	notify func()
	mu     sync.Mutex
	items  []any // message, event or conflict
	bytes  int
}

// message is one that has not been decoded.
type message []byte

// add reports whether there was room; there always is for events.
func (in *inbox) add(item any) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if m, ok := item.(message); ok {
		if in.bytes+len(m) > maxInbox {
			return false
		}
		in.bytes += len(m)
	}
	in.items = append(in.items, item)
	in.notify()
	return true
}

func (in *inbox) take() []any {
	in.mu.Lock()
	defer in.mu.Unlock()
	items := in.items
	in.items, in.bytes = nil, 0
	return items
}

// events takes and decodes what has come in.
func (g *gossip) events() []event {
	var events []event
	for _, item := range g.inbox.take() {
		var m message
		switch item := item.(type) {
		case event:
			events = append(events, item)
			continue
		case conflict:
			g.cluster.doubt(item)
			continue
		case message:
			m = item
		}
		if g.cluster.receiveUserMessage(m) || g.cluster.receiveKey(m) {
			continue
		}
		p, err := decodePacket(m)
		if err != nil {
			g.cluster.rejectMessage(err)
			continue
		}
		if p.from == g.cluster.identity.id {
			g.cluster.meet(p)
			continue
		}
		if !g.cluster.affiliation.belongs(p.from, p.claim) {
			g.cluster.reject("cluster")
			continue
		}
		g.cluster.metrics.count("in", p, len(m), 1)
		events = append(events, packetEvent{p})
	}
	return events
}

// isKeyError recognises memberlist's errors about two nodes that do not have
// the same key. It has no error values for them.
func isKeyError(text string) bool {
	return strings.Contains(text, "decrypt") || strings.Contains(text, "encryption is ") || strings.Contains(text, "encryption version")
}

var _ interface {
	memberlist.Delegate
	memberlist.AliveDelegate
	memberlist.MergeDelegate
	memberlist.ConflictDelegate
} = (*gossip)(nil)
