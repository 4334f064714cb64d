package datapath

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/overlane/overlane/datapath/dp"
)

// Stats is one reading of the pipeline's counters. Counters grow from the daemon's start.
type Stats struct {
	Workers    []int             `json:"workers"`         // CPU of each worker
	Stuck      []int             `json:"stuck,omitempty"` // CPUs of workers that have not run for some seconds
	Ran        []time.Duration   `json:"ran_ns"`          // how long each has run; one that has nothing to do sleeps
	QueueFill  []float64         `json:"queue_fill"`      // how full each one's queue of what came by the underlay's sockets is, from 0 to 1
	Rests      []uint64          `json:"rests"`           // how often each one has rested behind many datagrams: interrupt moderation
	Bursts     []WorkerBursts    `json:"bursts"`          // of each
	Hugepages  bool              `json:"hugepages"`       // packet memory lies on hugepages
	MbufsInUse uint32            `json:"mbufs_in_use"`
	MbufsTotal uint32            `json:"mbufs_total"`
	Tables     []TableStats      `json:"tables"`
	Ports      []PortStats       `json:"ports"`
	Networks   []NetworkStats    `json:"networks"`
	Underlay   Traffic           `json:"underlay"`
	Device     *DeviceStats      `json:"device,omitempty"` // that carries VXLAN; nil: the kernel's sockets do
	Whole      *WholeStats       `json:"whole,omitempty"`  // nil: all super-frames are cut up here
	Cut        string            `json:"cut,omitempty"`    // why, where they might not be
	Paths      []PathStats       `json:"paths"`            // to VTEPs that are in use
	Drops      map[string]uint64 `json:"drops"`            // packets by the name of the reason; every name is present
}

// WorkerBursts are the bursts of packets that a worker took through the pipeline.
type WorkerBursts struct {
	Ports    Bursts `json:"ports"` // from containers
	Underlay Bursts `json:"underlay"`
}

// Bursts counts bursts by their size: Sizes[i] of at most 1<<i packets, and more than half as many. A super-frame is a packet.
type Bursts = dp.Bursts

// PathStats is what the way to a VTEP carries.
type PathStats struct {
	VTEP    netip.AddrPort `json:"vtep"`
	MTU     int            `json:"mtu"`           // bytes of outer IP packet; 0: there is no route
	Learned bool           `json:"learned"`       // a router on the way has answered so, to a probe
	Whole   bool           `json:"whole"`         // super-frames leave in one piece
	Cut     string         `json:"cut,omitempty"` // why they do not, where Stats.Whole is there
	Traffic Traffic        `json:"traffic"`       // VXLAN packets as UDP payload; received ones are those that came, taken or not; sent ones went to the device, which may drop them
}

// WholeStats is about super-frames that leave in one piece.
type WholeStats struct {
	Tap     string `json:"tap"` // through which they leave
	Packets uint64 `json:"packets"`
	VTEPs   int    `json:"vteps"` // known
	Ways    int    `json:"ways"`  // VTEPs to which they leave so
}

// Traffic counts what went through. A super-frame counts as one packet on a port, its segments one each on the underlay, unless a card cuts it up.
type Traffic struct {
	RxPackets uint64 `json:"rx_packets"`
	RxBytes   uint64 `json:"rx_bytes"`
	TxPackets uint64 `json:"tx_packets"`
	TxBytes   uint64 `json:"tx_bytes"`
}

// Plus adds up what two have counted.
func (t Traffic) Plus(other Traffic) Traffic {
	return Traffic{t.RxPackets + other.RxPackets, t.RxBytes + other.RxBytes, t.TxPackets + other.TxPackets, t.TxBytes + other.TxBytes}
}

// PortStats is a port's traffic as the pipeline sees it: received from the container, transmitted to it.
type PortStats struct {
	ID   PortID `json:"id"`
	Name string `json:"name"`
	VNI  uint32 `json:"vni"`
	MAC  MAC    `json:"mac"`
	Traffic
	Trusted   uint64 `json:"trusted_packets"`    // of those received: from a source that is not the port's own
	Kind      string `json:"kind"`               // KindTap, KindVhost or KindMemif
	Connected bool   `json:"connected,omitzero"` // a native port's: its program's rings are in use

	Drops map[string]uint64 `json:"drops,omitempty"` // of what the container sent, or was to get, by the name of the reason; those that happened
}

// NetworkStats is the traffic of a network's ports, also of those that are gone, since the network was added.
type NetworkStats struct {
	VNI     uint32  `json:"vni"`
	Traffic Traffic `json:"traffic"`
}

// Kinds of port.
const (
	KindTap   = "tap"
	KindVhost = "vhost-user"
	KindMemif = "memif"
)

func (p *port) kind() (kind string, connected bool) {
	if p.native == nil {
		return KindTap, false
	}
	return p.native.name, p.native.isRunning()
}

func trafficOf(t dp.Traffic) Traffic { return Traffic{t.RxPackets, t.RxBytes, t.TxPackets, t.TxBytes} }

// DeviceStats describes the underlay's device.
type DeviceStats struct {
	Name      string `json:"name"` // as in Underlay
	Driver    string `json:"driver"`
	Interface string `json:"interface"` // by which the kernel uses it
	MAC       MAC    `json:"mac"`
	MTU       int    `json:"mtu"`       // bytes of outer IP packet
	VTEPs     int    `json:"vteps"`     // known
	NextHops  int    `json:"next_hops"` // VTEPs to which packets leave through it; to the others the kernel sends

	Offloads []string `json:"offloads"` // what it does of the work on VXLAN packets
}

// DropReason says in words why packets are dropped under a name of Stats.Drops; empty when no drop is called so.
func DropReason(name string) string { return dp.DropReason(name) }

// Stats reads all counters.
func (d *Datapath) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return Stats{}
	}
	read := dp.ReadStats()
	stats := Stats{
		Cut:        text(d.whyNotWhole),
		Workers:    d.workers,
		Stuck:      d.stuck(),
		Ran:        read.CPU[:len(d.workers)],
		QueueFill:  read.QueueFill[:len(d.workers)],
		Rests:      read.Rests[:len(d.workers)],
		Bursts:     make([]WorkerBursts, len(d.workers)),
		Hugepages:  d.hugepages,
		MbufsInUse: read.MbufsInUse,
		MbufsTotal: read.MbufsTotal,
		Tables:     d.tableStats(),
		Ports:      make([]PortStats, 0, len(d.ports)),
		Networks:   make([]NetworkStats, 0, len(d.nets)),
		Underlay:   trafficOf(read.Underlay),
		Drops:      read.Drops,
		Device:     d.deviceStats(),
		Whole:      d.wholeStats(read.Whole),
		Paths:      make([]PathStats, 0, len(d.vteps)),
	}
	for i := range stats.Bursts {
		stats.Bursts[i] = WorkerBursts{read.Bursts[i][0], read.Bursts[i][1]}
	}
	for at, v := range d.vteps {
		stats.Paths = append(stats.Paths, d.pathStats(at, v))
	}
	slices.SortFunc(stats.Paths, func(a, b PathStats) int { return a.VTEP.Compare(b.VTEP) })
	sums := make(map[uint32]Traffic, len(d.nets))
	for id, p := range d.ports {
		traffic, drops, err := dp.ReadPort(uint32(id))
		if err != nil {
			d.log.WithError(err).Errorf("counters of port %s", p.config.Name)
		}
		kind, connected := p.kind()
		stats.Ports = append(stats.Ports, PortStats{id, p.config.Name, p.config.VNI, p.config.MAC, trafficOf(traffic), traffic.Trusted, kind, connected, drops})
		sums[p.config.VNI] = sums[p.config.VNI].Plus(trafficOf(traffic))
	}
	for vni, n := range d.nets {
		stats.Networks = append(stats.Networks, NetworkStats{vni, n.past.Plus(sums[vni])})
	}
	slices.SortFunc(stats.Networks, func(a, b NetworkStats) int { return cmp.Compare(a.VNI, b.VNI) })
	slices.SortFunc(stats.Ports, func(a, b PortStats) int { return cmp.Compare(a.ID, b.ID) })
	return stats
}

func (d *Datapath) pathStats(at netip.AddrPort, v *vtep) PathStats {
	traffic, err := dp.ReadVTEP(v.id)
	if err != nil {
		d.log.WithError(err).Errorf("counters of VTEP %s", at)
	}
	return PathStats{at, v.mtu(), v.path.learned > 0 && v.path.learned == v.mtu(), v.whole != wholeWay{}, text(v.whyNotWhole), trafficOf(traffic)}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (d *Datapath) wholeStats(packets uint64) *WholeStats {
	if d.whole == nil {
		return nil
	}
	s := &WholeStats{Tap: d.whole.name, Packets: packets, VTEPs: len(d.vteps)}
	for _, v := range d.vteps {
		if v.whole != (wholeWay{}) {
			s.Ways++
		}
	}
	return s
}

func (d *Datapath) deviceStats() *DeviceStats {
	if d.device == nil {
		return nil
	}
	s := &DeviceStats{Name: d.device.Underlay.Device, Driver: d.device.Driver, MAC: d.device.MAC, MTU: d.device.MTU, VTEPs: len(d.vteps), Offloads: d.device.Offloads}
	if link, err := d.device.nextHops.netlink.LinkByIndex(d.device.Ifindex); err == nil {
		s.Interface = link.Attrs().Name
	}
	for _, v := range d.vteps {
		if v.nextHop != (MAC{}) {
			s.NextHops++
		}
	}
	return s
}
