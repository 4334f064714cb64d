package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/overlane/overlane/datapath/dp"
	"github.com/safchain/ethtool"
	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// gsoTapName is a pattern: each daemon of a network namespace has a tap of its own.
const gsoTapName = "overlane-gso%d"

// wholeFrames gives super-frames to the kernel in one piece, where the device that they leave by can cut them up inside of VXLAN. The
// sockets send all else, with the same source ports. What it makes in the kernel goes with the process, however that ends.
type wholeFrames struct {
	tap     []int // its files
	name    string
	index   int
	program link.Link // on the tap: see passOn
	netlink *netlink.Handle
	ipsec   bool // the kernel has it
	unasked bool // it goes to those alone that are known to take what it sends
	ethtool *ethtool.Ethtool

	// What was seen at the last look, so that one at many VTEPs asks the kernel once.
	looked   bool
	unusable error    // by any VTEP
	seen     sync.Map // offload of each device that packets leave by, by its number; what is not there is looked at
}

// openWholeFrames is called in the host's network namespace.
func openWholeFrames(workers int) (w *wholeFrames, err error) {
	w = &wholeFrames{}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.tap, w.name, err = dp.OpenGSOTap(gsoTapName, workers); errors.Is(err, unix.EINVAL) {
		return w, errors.New("the kernel's taps take no super-frames inside of VXLAN: want Linux 6.17 or later")
	} else if err != nil {
		return w, fmt.Errorf("make a tap for super-frames: %w", err)
	}
	w.ipsec = true
	if w.netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_XFRM); errors.Is(err, unix.EPROTONOSUPPORT) {
		w.ipsec = false
		w.netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	}
	if err == nil {
		w.ethtool, err = ethtool.NewEthtool()
	}
	if err != nil {
		return w, err
	}
	tap, err := w.netlink.LinkByName(w.name)
	if err == nil {
		w.index = tap.Attrs().Index
		err = w.passOn()
	}
	if err == nil {
		err = w.netlink.LinkSetUp(tap)
	}
	if err != nil {
		return w, fmt.Errorf("tap %s for super-frames: %w", w.name, err)
	}
	return w, nil
}

// TryWhole makes all that super-frames in one piece need of the kernel, and removes it. The error says what it lacks.
func TryWhole() error {
	w, err := openWholeFrames(1)
	if err == nil {
		w.close()
	}
	return err
}

// passOn has a program on the tap send each packet by the interface whose number is in its Ethernet source, to the neighbour that the
// host's routes name: the kernel resolves it. The queue is chosen as for the sockets' packets, so that those of a flow stay in order.
func (w *wholeFrames) passOn() error {
	const queueMapping, data, dataEnd = 12, 76, 80 // of struct __sk_buff, linux/bpf.h
	const header, source = 14, 6 + 2
	const shot = 2 // TC_ACT_SHOT, linux/pkt_cls.h
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "overlane_gso", Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, data, asm.Word),
		asm.LoadMem(asm.R3, asm.R1, dataEnd, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, header),
		asm.JGT.Reg(asm.R4, asm.R3, "drop"),
		asm.Mov.Imm(asm.R3, 0),
		asm.StoreMem(asm.R1, queueMapping, asm.R3, asm.Word),
		asm.LoadMem(asm.R1, asm.R2, source, asm.Word),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.Mov.Imm(asm.R2, 0), // the kernel looks the next hop up
		asm.Mov.Imm(asm.R3, 0),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRedirectNeigh.Call(),
		asm.Return(),
		asm.Mov.Imm(asm.R0, shot).WithSymbol("drop"),
		asm.Return(),
	}})
	if err != nil {
		return fmt.Errorf("program that passes packets on: %w", err)
	}
	defer program.Close()
	w.program, err = link.AttachTCX(link.TCXOptions{Interface: w.index, Program: program, Attach: ebpf.AttachTCXIngress})
	return err
}

// close comes when no VTEP leads through the tap any more.
func (w *wholeFrames) close() {
	if w.program != nil {
		w.program.Close()
	}
	if w.ethtool != nil {
		w.ethtool.Close()
	}
	if w.netlink != nil {
		w.netlink.Close()
	}
	dp.CloseGSOTap(w.tap)
}

// wholeWay is how super-frames leave in one piece.
type wholeWay struct {
	device int  // 0: they do not
	udp    bool // UDP's do as well
}

// way says how they may leave from one address of this host to another host, or why they may not.
func (w *wholeFrames) way(from, to netip.Addr) (wholeWay, error) {
	if from.Is4() != to.Is4() {
		return wholeWay{}, errors.New("the VTEP is of another address family than this host's")
	}
	w.lookAtHost()
	if w.unusable != nil {
		return wholeWay{}, w.unusable
	}
	device, err := w.egress(from, to)
	if err != nil {
		return wholeWay{}, err
	}
	can := w.offload(device)
	return wholeWay{device, can.udp}, can.missing
}

// forgetDevices has their offloads looked at again, of whose changes the kernel tells.
func (p *paths) forgetDevices() {
	if p.d.whole != nil {
		p.d.whole.seen.Clear()
	}
}

func (w *wholeFrames) lookAtHost() {
	if w.looked {
		return
	}
	w.looked = true
	w.unusable = w.tapIsUp()
	for _, look := range []func() error{socketsAreFree, w.noRuleOfPorts, w.noIPsec} {
		if w.unusable == nil {
			w.unusable = look()
		}
	}
}

func (w *wholeFrames) tapIsUp() error {
	if tap, err := w.netlink.LinkByIndex(w.index); err != nil || tap.Attrs().RawFlags&unix.IFF_UP == 0 {
		return fmt.Errorf("the tap %s is gone or down: set it up, or restart overlane", w.name)
	}
	return nil
}

// socketsAreFree tells of a VRF that all sockets of this process belong to: `ip vrf exec`. The tap does not.
func socketsAreFree() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	}
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	device, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX)
	if err != nil || device != 0 {
		return fmt.Errorf("overlane's sockets are bound to a device (%d, %v): ip vrf identify", device, err)
	}
	return nil
}

// noRuleOfPorts tells of a rule of the host's routes that the sockets' packets may fall under, and the tap's program never does.
func (w *wholeFrames) noRuleOfPorts() error {
	rules, err := w.netlink.RuleList(netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("rules of the routes: %w", err)
	}
	for _, r := range rules {
		if r.IPProto != 0 || r.Sport != nil || r.Dport != nil || r.UIDRange != nil {
			return errors.New("a rule of this host's routes looks at ports, the protocol or the user: ip rule")
		}
	}
	return nil
}

// noIPsec tells of policies for what leaves this host: packets that they cover would leave in clear past the sockets. Which ones these
// are is not looked at.
func (w *wholeFrames) noIPsec() error {
	if !w.ipsec {
		return nil
	}
	policies, err := w.netlink.XfrmPolicyList(netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("IPsec policies: %w", err)
	}
	for _, p := range policies {
		if p.Dir == netlink.XFRM_DIR_OUT && (len(p.Tmpls) > 0 || p.Action == netlink.XFRM_POLICY_BLOCK) {
			return errors.New("this host has an IPsec policy for what leaves it: ip xfrm policy")
		}
	}
	return nil
}

// egress is the device by which packets leave. Of several next hops the kernel chooses one a flow by its ports, which the tap's program
// does not tell.
func (w *wholeFrames) egress(from, to netip.Addr) (int, error) {
	route, err := w.route(to, &netlink.RouteGetOptions{FIBMatch: true, SrcAddr: from.AsSlice()})
	if err != nil {
		return 0, err
	}
	if route.Type != unix.RTN_UNICAST {
		return 0, errors.New("the route leads to no other host")
	}
	if len(route.MultiPath) > 0 || route.LinkIndex == 0 {
		return 0, errors.New("the route has several next hops")
	}
	if route.Encap != nil {
		return 0, errors.New("the route has an encapsulation of its own")
	}
	// As the program looks it up: a device of a VRF leads to the VRF's routes.
	again, err := w.route(to, &netlink.RouteGetOptions{FIBMatch: true, SrcAddr: from.AsSlice(), OifIndex: route.LinkIndex})
	if err != nil || !again.Equal(route) {
		return 0, errors.New("by its device alone the kernel finds another route: ip route get ... oif")
	}
	return route.LinkIndex, nil
}

func (w *wholeFrames) route(to netip.Addr, options *netlink.RouteGetOptions) (netlink.Route, error) {
	routes, err := w.netlink.RouteGetWithOptions(to.AsSlice(), options)
	if err != nil {
		return netlink.Route{}, fmt.Errorf("no route: %w", err)
	}
	if len(routes) != 1 {
		return netlink.Route{}, fmt.Errorf("%d routes", len(routes))
	}
	return routes[0], nil
}

// offload is what a device, and all below it, does with super-frames inside of VXLAN.
type offload struct {
	udp     bool
	missing error // what it lacks for TCP's
}

func (w *wholeFrames) offload(device int) offload {
	if known, ok := w.seen.Load(device); ok {
		return known.(offload)
	}
	can := w.look(device)
	w.seen.Store(device, can)
	return can
}

// mind says whether a change of the device matters.
func (w *wholeFrames) mind(device int) bool {
	if w == nil {
		return false
	}
	_, ok := w.seen.Load(device)
	return ok || device == w.index
}

func (w *wholeFrames) look(device int) offload {
	l, err := w.netlink.LinkByIndex(device)
	if err != nil {
		return offload{missing: fmt.Errorf("device of the route: %w", err)}
	}
	name := l.Attrs().Name
	if l.Attrs().EncapType != "ether" {
		return offload{missing: fmt.Errorf("%s is no Ethernet device", name)}
	}
	features, err := w.ethtool.Features(name)
	if err != nil {
		return offload{missing: fmt.Errorf("offloads of %s: %w", name, err)}
	}
	for _, f := range []string{"tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation"} {
		if !features[f] {
			return offload{missing: fmt.Errorf("%s lacks the offload %s: ethtool -k %s", name, f, name)}
		}
	}
	can := offload{udp: features["tx-udp-segmentation"]}
	below, err := w.below(l)
	if err != nil {
		return offload{missing: err}
	}
	for _, lower := range below {
		l := w.offload(lower)
		if l.missing != nil {
			return l
		}
		can.udp = can.udp && l.udp
	}
	return can
}

// below are the devices by which a device's packets leave in the end: some say that they can do all, and leave it to these.
func (w *wholeFrames) below(l netlink.Link) (devices []int, err error) {
	switch l.Type() {
	case "vlan", "macvlan", "ipvlan":
		if l.Attrs().NetNsID >= 0 {
			return nil, fmt.Errorf("what is below %s is in another network namespace", l.Attrs().Name)
		}
		return []int{l.Attrs().ParentIndex}, nil
	case "bridge", "bond", "team":
		all, err := w.netlink.LinkList()
		if err != nil {
			return nil, fmt.Errorf("devices below %s: %w", l.Attrs().Name, err)
		}
		for _, other := range all {
			if other.Attrs().MasterIndex == l.Attrs().Index {
				devices = append(devices, other.Attrs().Index)
			}
		}
	}
	return devices, nil
}

// watchIPsec tells when policies come or go. Where the kernel has none, nothing is told.
func (p *paths) watchIPsec() <-chan struct{} {
	told := make(chan struct{}, 1)
	if p.d.whole == nil || !p.d.whole.ipsec {
		return told
	}
	socket, err := nl.SubscribeAt(p.ns, netns.None(), unix.NETLINK_XFRM, nl.XFRMNLGRP_POLICY)
	if err != nil {
		p.log.WithError(err).Warn("the kernel's IPsec policies are looked at every ", lookEvery)
		return told
	}
	go func() {
		<-p.done
		socket.Close()
	}()
	go func() {
		for {
			if _, _, err := socket.Receive(); err != nil && !errors.Is(err, unix.ENOBUFS) {
				return
			}
			select {
			case told <- struct{}{}:
			default:
			}
		}
	}()
	return told
}

// followIPsec looks at the ways only where the first policy has come or the last has gone.
func (p *paths) followIPsec() {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	w := p.d.whole
	usable := w.unusable == nil
	w.looked = false
	w.lookAtHost()
	if usable == (w.unusable == nil) {
		return
	}
	for _, v := range p.d.vteps {
		p.lookAtWhole(v)
	}
}

// SetTakeWhole says of other hosts whether they take super-frames in one piece, with a checksum inside that nobody has computed, as
// they arrive over a virtual wire; and such checksums in packets of encrypted networks. It takes the place of what was said before, and holds for VTEPs that are yet to come.
func (d *Datapath) SetTakeWhole(takes map[netip.AddrPort]bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.takeWhole
	d.takeWhole = takes
	for _, v := range d.vteps {
		was, wasKnown := before[v.at]
		if is, isKnown := takes[v.at]; is != was || isKnown != wasKnown {
			d.setPartial(v)
			d.paths.lookAtWhole(v)
		}
	}
}

// setPartial says whether a VTEP takes checksums that were never computed in packets of encrypted networks.
func (d *Datapath) setPartial(v *vtep) {
	if err := dp.SetPartial(v.id, d.takeWhole[v.at]); err != nil {
		d.log.WithError(err).Errorf("checksums to VTEP %s", v.at)
	}
}

func (d *Datapath) mayTakeWhole(vtep netip.AddrPort) error {
	takes, known := d.takeWhole[vtep]
	switch {
	case known && !takes:
		return errors.New("the other host's overlane is of a version that takes none")
	case !known && d.whole.unasked:
		return fmt.Errorf("the other host does not say that it takes them: --underlay %s goes without", UnderlayTun)
	}
	return nil
}

// lookAtWhole is called with d.mu held.
func (p *paths) lookAtWhole(v *vtep) {
	w := p.d.whole
	if w == nil || p.d.closed {
		return
	}
	way, err := wholeWay{}, p.d.mayTakeWhole(v.at)
	if err == nil {
		way, err = w.way(p.own, v.at.Addr())
	}
	if v.whyNotWhole = err; err != nil {
		way = wholeWay{}
	}
	p.d.setWhole(v, way)
}

// setWhole brings the pipeline in line.
func (d *Datapath) setWhole(v *vtep, way wholeWay) {
	if way == v.whole {
		return
	}
	if err := dp.SetWhole(v.id, d.whole.tap, way.device, way.udp); err != nil {
		d.log.WithError(err).Errorf("super-frames to VTEP %s", v.at)
		return
	}
	log := d.log.WithFields(logrus.Fields{"vtep": v.at, "whole": way.device != 0})
	if v.whyNotWhole != nil {
		log = log.WithField("because", v.whyNotWhole)
	}
	log.Debug("super-frames to a VTEP")
	v.whole = way
}
