package overlay

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/overlane/overlane/capture"
	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
)

// CaptureRequest says by names which packets are wanted.
type CaptureRequest struct {
	Network   string   // name, key or ID; empty: all
	Container string   // name or address: what is from it and for it; empty: of all
	From, To  string   // names or addresses: what these two say to each other; either may be empty
	VTEP      string   // name of a host: what is sent to it and comes from it; empty: any
	Hosts     []string // that capture; "all"; empty: this host, and that of Container, From and To
	Points    []datapath.Point
	Sample    int    // one packet in so many, the same ones on every host
	Snap      int    // bytes of a packet that are kept
	Filter    string // of frames: pcap-filter(7)
	Opaque    bool   // also drops of which no frame can be looked at: see datapath.CaptureConfig
}

// allHosts among CaptureRequest.Hosts means every one that is up.
const allHosts = "all"

// capturePlan is what a request comes to.
type capturePlan struct {
	query   capture.Query
	here    bool
	members []string
}

// Capture captures packets until ctx ends or take returns an error. Take gets them in order of time, each with what it is about, and how the hosts
// do, by their names: see capture.Manager.Run.
func (o *Overlay) Capture(ctx context.Context, r CaptureRequest, take func([]capture.Packet, []capture.Event, map[string]capture.Report) error) error {
	p, err := o.planCapture(r)
	if err != nil {
		return err
	}
	d := &describer{overlay: o}
	return o.captures.Load().Run(ctx, p.query, p.here, p.members, func(packets []capture.Packet, reports []capture.Report) error {
		d.refresh()
		events := make([]capture.Event, len(packets))
		for i, packet := range packets {
			events[i] = d.event(packet)
		}
		named := make(map[string]capture.Report, len(reports))
		for _, report := range reports {
			named[d.host(report.Host)] = report
		}
		return take(packets, events, named)
	})
}

// openCapture is the datapath's, as package capture has it: nil with an error.
func (o *Overlay) openCapture(c datapath.CaptureConfig) (capture.Source, error) {
	opened, err := o.cfg.Datapath.Capture(c)
	if err != nil {
		return nil, err
	}
	return opened, nil
}

func (o *Overlay) planCapture(r CaptureRequest) (p capturePlan, err error) {
	p.query = capture.Query{Points: r.Points, Sample: r.Sample, Snap: r.Snap, Opaque: r.Opaque}
	key := ""
	if r.Network != "" {
		if key, p.query.VNI, err = o.captureNetwork(r.Network); err != nil {
			return p, err
		}
	}
	owners := map[string]bool{}
	find := func(flag, name string) ([]discovery.Record, error) {
		found, err := o.captureTarget(flag, name, key)
		for _, record := range found {
			owners[record.Owner] = true
		}
		return found, err
	}
	if r.Container != "" {
		found, err := find("--container", r.Container)
		if err != nil {
			return p, err
		}
		if len(found) != 1 {
			return p, fmt.Errorf("--container %q: is not one container on one network: name the network with -n (%s)", r.Container, o.recordsText(found))
		}
		mac := datapath.MAC(found[0].Endpoint.MAC)
		p.query.MAC, p.query.VNI = &mac, found[0].Network.VNI
	}
	var parts []string
	for _, side := range []struct{ flag, name string }{{"--from", r.From}, {"--to", r.To}} {
		if side.name == "" {
			continue
		}
		if addr, err := netip.ParseAddr(side.name); err == nil {
			find(side.flag, side.name) // it may be nobody's
			parts = append(parts, hostFilter([]netip.Addr{addr}))
			continue
		}
		found, err := find(side.flag, side.name)
		if err != nil {
			return p, err
		}
		var addrs []netip.Addr
		for _, record := range found {
			addrs = append(addrs, record.Endpoint.Addrs...)
		}
		parts = append(parts, hostFilter(addrs))
	}
	if r.Filter != "" {
		parts = append(parts, "("+r.Filter+")")
	}
	p.query.Filter = strings.Join(parts, " and ")
	if r.VTEP != "" {
		m, err := o.captureMember("--vtep", r.VTEP)
		if err != nil {
			return p, err
		}
		p.query.VTEP = m.VTEP.Addr()
	}
	p.here, p.members, err = o.captureHosts(r.Hosts, owners)
	return p, err
}

func hostFilter(addrs []netip.Addr) string {
	var each []string
	for _, addr := range addrs {
		each = append(each, "host "+addr.String())
	}
	return "(" + strings.Join(each, " or ") + ")"
}

// captureNetwork is a network of this host, or one that it has heard of, by its key.
func (o *Overlay) captureNetwork(text string) (key string, vni uint32, err error) {
	id, err := o.networkOf(text)
	if err != nil {
		return "", 0, err
	}
	if id != "" {
		o.mu.RLock()
		n := o.networks[id]
		o.mu.RUnlock()
		if n != nil {
			return n.Key, n.VNI, nil
		}
	}
	for _, record := range o.cluster.Records() {
		if record.Network.Key == text {
			return text, record.Network.VNI, nil
		}
	}
	return "", 0, fmt.Errorf("network %q: no host has one of that name or key with a container on it: `overlane status` lists them", text)
}

// captureTarget finds containers by name or address, in the network of a key or in all.
func (o *Overlay) captureTarget(flag, name, key string) (found []discovery.Record, err error) {
	for _, record := range o.cluster.Records() {
		if (key == "" || record.Network.Key == key) && isCalled(record.Endpoint, name, "") {
			found = append(found, record)
		}
	}
	if len(found) == 0 {
		where := "on any network"
		if key != "" {
			where = "on network " + key
		}
		return nil, fmt.Errorf("%s %q: no container %s has this name or address: `overlane status` lists them", flag, name, where)
	}
	return found, nil
}

func (o *Overlay) recordsText(records []discovery.Record) string {
	var each []string
	for _, r := range records {
		name, _, _ := strings.Cut(r.Endpoint.Names, " ")
		each = append(each, fmt.Sprintf("%s on %s", cmp.Or(name, short(r.Endpoint.ID)), r.Network.Key))
	}
	return strings.Join(each, ", ")
}

func (o *Overlay) captureMember(flag, host string) (discovery.Member, error) {
	var names []string
	for _, m := range o.cluster.Members() {
		if m.State == discovery.StateDead || m.State == discovery.StateLeft {
			continue
		}
		if m.Host == host || m.ID == host {
			return m, nil
		}
		names = append(names, m.Host)
	}
	return discovery.Member{}, fmt.Errorf("%s %q: no host of the cluster that is up is called so: these are %s", flag, host, strings.Join(names, ", "))
}

// captureHosts says which hosts capture: those that were named, or this one and those with a part in what is wanted.
func (o *Overlay) captureHosts(named []string, owners map[string]bool) (here bool, members []string, err error) {
	self := o.cluster.Self().ID
	wanted := map[string]bool{}
	for _, name := range named {
		if name == allHosts {
			for _, m := range o.cluster.Members() {
				wanted[m.ID] = m.State == discovery.StateAlive
			}
			continue
		}
		m, err := o.captureMember("--host", name)
		if err != nil {
			return false, nil, err
		}
		wanted[m.ID] = true
	}
	if len(named) == 0 {
		wanted = owners
		wanted[self] = true
	}
	for _, m := range o.cluster.Members() {
		if wanted[m.ID] && m.ID != self && m.State != discovery.StateDead && m.State != discovery.StateLeft {
			members = append(members, m.ID)
		}
	}
	return wanted[self], members, nil
}

// hostCalled is a member's name.
func (o *Overlay) hostCalled(member string) string {
	for _, m := range o.cluster.Members() {
		if m.ID == member {
			return hostOf(m, member)
		}
	}
	return member
}

// describeInterval is how old what is known of names may be.
const describeInterval = time.Second

// describer tells by names what a packet is about.
type describer struct {
	overlay    *Overlay
	at         time.Time
	hosts      map[string]discovery.Member // by ID
	atVTEP     map[netip.AddrPort]string   // hosts
	networks   map[uint32]string
	containers map[portKey]string
}

type portKey struct {
	vni uint32
	mac datapath.MAC
}

func (d *describer) refresh() {
	if time.Since(d.at) < describeInterval {
		return
	}
	o := d.overlay
	d.at, d.hosts, d.atVTEP, d.networks, d.containers = time.Now(), map[string]discovery.Member{}, map[netip.AddrPort]string{}, map[uint32]string{}, map[portKey]string{}
	for _, m := range o.cluster.Members() {
		d.hosts[m.ID] = m
	}
	for vtep, m := range memberAt(o.cluster.Members()) {
		d.atVTEP[vtep] = m.Host
	}
	self := o.cluster.Self()
	d.hosts[""], d.hosts[self.ID], d.atVTEP[self.VTEP] = self, self, self.Host
	for _, r := range o.cluster.Records() {
		name, _, _ := strings.Cut(r.Endpoint.Names, " ")
		d.containers[portKey{r.Network.VNI, datapath.MAC(r.Endpoint.MAC)}] = cmp.Or(name, short(r.Endpoint.ID))
		d.networks[r.Network.VNI] = r.Network.Key
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	for _, n := range o.networks {
		n.mu.Lock()
		d.networks[n.VNI] = cmp.Or(n.called, n.Key)
		n.mu.Unlock()
	}
}

// host is a member's name. One that is gone has been one.
func (d *describer) host(id string) string { return cmp.Or(d.hosts[id].Host, id) }

func (d *describer) event(p capture.Packet) capture.Event {
	e := capture.Describe(p)
	e.Host, e.Own, e.Network = d.host(p.Host), d.hosts[p.Host].VTEP, d.networks[p.VNI]
	if p.Port != (datapath.MAC{}) {
		e.Container = cmp.Or(d.containers[portKey{p.VNI, p.Port}], p.Port.String())
	}
	if p.VTEP.IsValid() {
		e.Peer = d.peer(p.VTEP)
	}
	return e
}

// peer is the host at a VTEP. Of a packet whose sender is a stranger the address alone is known.
func (d *describer) peer(vtep netip.AddrPort) string {
	if host := d.atVTEP[vtep]; host != "" || vtep.Port() != 0 {
		return host
	}
	for at, host := range d.atVTEP {
		if at.Addr() == vtep.Addr() {
			return host
		}
	}
	return ""
}
