package datapath

import (
	"errors"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/datapath/dp"
)

const (
	// What was learned of a path is looked into again when it is so old: RFC 1191 section 6.3.
	learnedFor = 10 * time.Minute
	// How often all is looked at, for what the kernel has not told of.
	lookEvery = 10 * time.Second
	// A look at the routes of a large cluster takes milliseconds: between two there is so many times as long.
	lookRest = 10
)

// path is what is known of the way to a VTEP, in bytes of outer IP packet; 0: nothing.
type path struct {
	routes    int // what this host's routes and devices carry
	announced int // what the other host says that it receives
	learned   int // what a router has answered to a probe
	since     time.Time
	probing   bool
	set       int // what the pipeline was told
}

// mtu is 0 as long as nothing is known.
func (v *vtep) mtu() int {
	if v.path.learned > 0 {
		return min(v.path.learned, v.path.told())
	}
	return v.path.told()
}

// told is what both hosts say of the path.
func (p *path) told() int {
	if p.announced > 0 {
		return min(p.announced, p.routes)
	}
	return p.routes
}

// SetReceiveMTUs says how long a packet each VTEP receives, in bytes of outer IP packet: no longer ones are sent to it. It takes the place
// of what was said before, and holds for VTEPs that are yet to come.
func (d *Datapath) SetReceiveMTUs(mtus map[netip.AddrPort]int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.announced = mtus
	for _, v := range d.vteps {
		d.paths.lookAtAnnounced(v)
	}
}

// lookAtAnnounced is called with d.mu held. What no host can mean does not count.
func (p *paths) lookAtAnnounced(v *vtep) {
	v.path.announced = 0
	if mtu := p.d.announced[v.at]; mtu >= leastMTU(v.at.Addr()) {
		v.path.announced = mtu
	}
	p.set(v)
}

// paths keeps the MTU of each path in line with the kernel's routes and devices, and with what routers on the way answer. Nobody's
// word is taken for it: what seems to come from a router is a hint that leads to a probe, and an answer to that counts.
type paths struct {
	d       *Datapath
	own     netip.Addr      // the VTEP's; with d.mu held
	ns      netns.NsHandle  // in which the routes are
	netlink *netlink.Handle // there; used with d.mu held
	hints   *hints
	doubts  *os.File
	log     logrus.FieldLogger

	stopOnce sync.Once
	done     chan struct{}
	ended    chan struct{}
}

// followPaths begins to watch the network namespace of the calling thread.
func (d *Datapath) followPaths(own netip.Addr) error {
	p := &paths{d: d, own: own, ns: netns.None(), log: d.log, done: make(chan struct{}), ended: make(chan struct{})}
	fd, err := unix.Dup(dp.DoubtsFD())
	if err != nil {
		return err
	}
	p.doubts = os.NewFile(uintptr(fd), "doubts")
	if p.netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE); err == nil {
		p.ns, err = netns.Get()
	}
	if err != nil {
		p.close()
		return err
	}
	if p.hints, err = listenHints(own); err != nil {
		p.log.WithError(err).Warn("what routers tell of a path that carries less is not heard: give the daemon CAP_NET_RAW")
	}
	d.paths = p
	go p.follow()
	return nil
}

// follow has a thread of the namespace to itself, on which it makes the sockets of probes; it ends with it.
func (p *paths) follow() {
	defer close(p.ended)
	runtime.LockOSThread()
	if err := netns.Set(p.ns); err != nil {
		p.log.WithError(err).Error("the MTUs of paths to other hosts are not followed")
		return
	}
	changed := p.watch()
	ipsec := p.watchIPsec()
	doubted := p.watchDoubts()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var settled <-chan time.Time // nil: nothing has changed
	rest := debounceTime
	for {
		select {
		case <-p.done:
			return
		case hint := <-p.hints.queue:
			p.followHint(hint)
		case <-doubted:
			p.followDoubts()
		case _, alive := <-changed:
			if !alive {
				changed = nil
			}
			if settled == nil {
				settled = time.After(rest)
			}
		case <-ipsec:
			p.followIPsec()
		case <-look.C:
			if changed == nil {
				changed = p.watch()
				p.forgetDevices()
			}
			p.lookAtRoutes()
			p.probeOld()
		case <-settled:
			settled = nil
			began := time.Now()
			p.forgetDevices()
			p.lookAtRoutes()
			rest = max(debounceTime, lookRest*time.Since(began))
		}
	}
}

// watch tells of changes of routes and devices. The channel is closed when the kernel has dropped one that it could not deliver.
func (p *paths) watch() <-chan struct{} {
	told := make(chan struct{}, 1)
	routes, links, done := make(chan netlink.RouteUpdate, 64), make(chan netlink.LinkUpdate, 64), make(chan struct{})
	err := errors.Join(
		netlink.RouteSubscribeWithOptions(routes, done, netlink.RouteSubscribeOptions{Namespace: &p.ns}),
		netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{Namespace: &p.ns}))
	if err != nil {
		p.log.WithError(err).Warn("the kernel's routes and devices are looked at every ", lookEvery)
	}
	go func() {
		defer close(told)
		defer close(done)
		mtus := deviceMTUs{}
		for alive := err == nil; alive; {
			matters := true
			select {
			case <-p.done:
				return
			case route, ok := <-routes:
				// Each container's interface brings some of these.
				alive, matters = ok, route.Dst == nil || !route.Dst.IP.IsMulticast() && !route.Dst.IP.IsLinkLocalUnicast()
			case link, ok := <-links:
				alive = ok
				matters = !ok || mtus.changed(link) || p.d.whole.mind(int(link.Index))
			}
			if matters {
				select {
				case told <- struct{}{}:
				default:
				}
			}
		}
	}()
	return told
}

// deviceMTUs are those of the devices that there are, by their index.
type deviceMTUs map[int32]int

// changed takes what the kernel tells of a device, and says whether paths may have another MTU by it. Routes that went with a device
// are seen by the next look at all: containers' interfaces, of which there are many, have none.
func (m deviceMTUs) changed(link netlink.LinkUpdate) bool {
	if link.Header.Type == unix.RTM_DELLINK {
		delete(m, link.Index)
		return false
	}
	before, known := m[link.Index]
	m[link.Index] = link.Attrs().MTU
	return !known || before != m[link.Index]
}

// watchDoubts tells when the kernel has refused a packet.
func (p *paths) watchDoubts() <-chan struct{} {
	told := make(chan struct{})
	go func() {
		for count := make([]byte, 8); ; {
			if _, err := p.doubts.Read(count); err != nil {
				return
			}
			select {
			case told <- struct{}{}:
			case <-p.done:
				return
			}
		}
	}()
	return told
}

func (p *paths) lookAtRoutes() {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	now := newRoutes(p.netlink, p.own)
	if p.d.whole != nil {
		p.d.whole.looked = false
	}
	for _, v := range p.d.vteps {
		p.lookAtRoute(v, now)
	}
}

// lookAtRoute is called with d.mu held, also for a VTEP that was just added. Without a route what was known of the MTU stays.
func (p *paths) lookAtRoute(v *vtep, now routes) {
	p.lookAtWhole(v)
	mtu, err := now.mtu(v.at.Addr())
	if err != nil {
		p.log.WithError(err).Debugf("VTEP %s", v.at)
		return
	}
	if p.d.device != nil {
		mtu = min(mtu, p.d.device.MTU)
	}
	v.path.routes = mtu
	p.set(v)
}

// set tells the pipeline what has changed.
func (p *paths) set(v *vtep) {
	mtu := v.mtu()
	if mtu == 0 || mtu == v.path.set || p.d.closed {
		return
	}
	if err := dp.SetMTU(v.id, mtu); err != nil {
		p.log.WithError(err).Errorf("MTU %d of the path to VTEP %s", mtu, v.at)
		return
	}
	log := p.log.WithFields(logrus.Fields{"vtep": v.at, "mtu": mtu})
	if v.path.set == 0 {
		log.Debug("path to a VTEP")
	} else {
		log.WithField("before", v.path.set).Info("the path to a VTEP has another MTU")
	}
	v.path.set = mtu
}

// followHint looks into what seems to be a router's word.
func (p *paths) followHint(h hint) {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if v := p.d.vteps[h.to]; v != nil && h.mtu < v.mtu() {
		p.probe(v, v.mtu())
	}
}

// followDoubts looks at the paths on which the kernel has refused packets that seemed to fit: a route or device has changed and is not
// told of yet, or what encrypts on the way takes room.
func (p *paths) followDoubts() {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if p.d.closed {
		return
	}
	byID := map[uint32]*vtep{}
	for _, v := range p.d.vteps {
		byID[v.id] = v
	}
	now := newRoutes(p.netlink, p.own)
	if p.d.whole != nil {
		p.d.whole.looked = false // it may be the tap
	}
	for _, id := range dp.Doubts() {
		v := byID[id]
		if v == nil {
			continue
		}
		before := v.mtu()
		if p.lookAtRoute(v, now); v.mtu() == before {
			p.probe(v, before)
		}
	}
}

// probeOld looks whether what was learned long ago still holds.
func (p *paths) probeOld() {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	for _, v := range p.d.vteps {
		if v.path.learned > 0 && time.Since(v.path.since) > learnedFor {
			p.probe(v, v.path.told())
		}
	}
}

// probe sends a packet of so many bytes, and takes to heart what is answered. One at a time is under way to a VTEP. It is called with
// d.mu held, on the thread of the namespace.
func (p *paths) probe(v *vtep, size int) {
	if v.path.probing || size > longestProbe {
		return
	}
	sent, err := sendProbe(p.source(v), v.at, size)
	if err != nil {
		p.log.WithError(err).Debugf("probe of %d bytes to VTEP %s", size, v.at)
		return
	}
	v.path.probing = true
	own := p.own
	go func() {
		mtu := sent.answer()
		p.d.mu.Lock()
		defer p.d.mu.Unlock()
		if p.d.vteps[v.at] == v {
			v.path.probing = false
			if own == p.own { // else it went another way
				v.learn(size, mtu)
				p.set(v)
			}
		}
	}()
}

// move has probes leave from another address, and takes hints about what leaves from there. The way from there may be another: what was
// learned of the one before does not count. It is called with d.mu held.
func (p *paths) move(to netip.Addr) {
	p.own = to
	p.hints.own.Store(&to)
	for _, v := range p.d.vteps {
		v.path.learned = 0
		p.set(v)
	}
}

// source is the address from which packets to the VTEP leave; invalid: the kernel chooses it.
func (p *paths) source(v *vtep) netip.Addr {
	if v.at.Addr().Is4() == p.own.Is4() {
		return p.own
	}
	return netip.Addr{}
}

// learn takes the answer to a probe; 0: there was none.
func (v *vtep) learn(size, mtu int) {
	switch {
	case mtu > 0 && mtu < size:
		v.path.learned, v.path.since = max(mtu, leastMTU(v.at.Addr())), time.Now()
	case mtu == 0 && size > v.path.learned: // it got through, as far as one can tell
		v.path.learned = 0
	}
}

// leastMTU is what a path is never held to carry less than: RFC 791 section 3.2 has every host take so much, RFC 8200 section 5 every
// path. Routers that do not say what they carry (RFC 1191 section 5) say 0.
func leastMTU(addr netip.Addr) int {
	if addr.Is4() {
		return 576
	}
	return 1280
}

// stop may be called again. Nothing is probed after it.
func (p *paths) stop() {
	p.stopOnce.Do(func() {
		close(p.done)
		p.doubts.Close()
		p.hints.close()
		<-p.ended
	})
}

// close comes after stop, when nobody asks any more.
func (p *paths) close() {
	if p.netlink != nil {
		p.netlink.Close()
	}
	p.ns.Close()
}
