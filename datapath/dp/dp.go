// Package dp is the wall between Go and the C pipeline: the only Go code that imports "C". Values cross it, never a Go
// pointer that C keeps; dp.h says what each call means.
//
// Calls that change something must not overlap: package datapath sees to it.
package dp

/*
#cgo pkg-config: libdpdk
#cgo LDFLAGS: -lpcap
#cgo amd64 LDFLAGS: -lIPSec_MB
#cgo !amd64 LDFLAGS: -lcrypto
// libdpdk's -march names a CPU of 2008, whose instructions are all right, but code arranged for it is slow on others.
#cgo CFLAGS: -D_GNU_SOURCE -std=gnu11 -O3 -mtune=generic -Wall
#include "dp.h"
#include <stdlib.h>
*/
import "C"

import (
	"cmp"
	"errors"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What the pipeline has room for. MaxFrame is in bytes, Ethernet header included.
const (
	MaxWorkers    = C.DP_MAX_WORKERS
	MaxPorts      = C.DP_MAX_PORTS
	MaxVTEPs      = C.DP_MAX_VTEPS
	MaxNetworks   = C.DP_MAX_NETS
	MaxMACs       = C.DP_MAX_MACS
	MaxNeighbours = C.DP_MAX_NEIGHBOURS
	MaxFrame      = C.DP_FRAME_MAX
	ClaimsTaken   = C.DP_CLAIMS_TAKEN // at once
	Sources       = C.DP_UDP_SOURCES  // ports that a worker sends from
)

// Config starts the pipeline.
type Config struct {
	CPUs          []int
	VTEP          netip.Addr
	Port          uint16
	Hugepages     bool
	DeviceBuffers int      // packet buffers for devices, of which each keeps what its rings hold; 0: no devices
	PCI           string   // devargs of the one PCI device that DPDK may take; empty: none
	Claims        int      // eventfd(2), written to when there are claims to take
	Log           *os.File // takes EAL's log; the pipeline owns it from then on
}

// Port is a container's port: a queue for each worker, a device of its own, or rings that are shared with the container.
type Port struct {
	VNI    uint32
	MTU    int // of the container's interface, in bytes of IP packet; 0: 1500
	Trust  Trust
	MAC    [6]byte
	Addrs  []netip.Addr
	FDs    []int
	Device *uint32
	Rings  Rings
}

// Rings is how workers and a port's container share rings.
type Rings uint32

// The kinds of rings.
const (
	NoRings    Rings = C.DP_RINGS_NONE
	VhostRings Rings = C.DP_RINGS_VHOST // see StartVhost
	MemifRings Rings = C.DP_RINGS_MEMIF // see StartMemif
)

// Trust is what a port's container may send from beside its own.
type Trust uint32

// From the least to the most.
const (
	TrustNone    Trust = C.DP_TRUST_NONE
	TrustAddress Trust = C.DP_TRUST_ADDRESS // any IP address that is nobody else's
	TrustMAC     Trust = C.DP_TRUST_MAC     // and any such MAC
)

// Claim is an address that the container on a trusted port says it has, at a MAC.
type Claim struct {
	Port uint32
	MAC  [6]byte
	Addr netip.Addr
}

// Prober is the source of the control plane's own requests, whose answers are claims.
var Prober = func() (mac [6]byte) {
	for i := range mac {
		mac[i] = byte(C.dp_prober[i])
	}
	return mac
}()

// TakeClaims takes up to ClaimsTaken of the claims that were made.
func TakeClaims() []Claim {
	var taken [C.DP_CLAIMS_TAKEN]C.struct_dp_claim
	claims := make([]Claim, C.dp_claims_take(&taken[0], C.DP_CLAIMS_TAKEN))
	for i := range claims {
		c := Claim{Port: uint32(taken[i].port)}
		for j := range c.MAC {
			c.MAC[j] = byte(taken[i].mac[j])
		}
		var addr [16]byte
		for j := range addr {
			addr[j] = byte(taken[i].addr.b[j])
		}
		c.Addr = netip.AddrFrom16(addr).Unmap()
		claims[i] = c
	}
	return claims
}

// Traffic counts packets and bytes, and those packets that came from a source which is not the port's own.
type Traffic struct{ RxPackets, RxBytes, TxPackets, TxBytes, Trusted uint64 }

// Stats is the sum over all workers.
type Stats struct {
	MbufsInUse, MbufsTotal uint32
	Underlay               Traffic
	Whole                  uint64 // super-frames that left as such
	Drops                  map[string]uint64
	CPU                    []time.Duration // that each worker has run
	QueueFill              []float64       // of what each worker has to read from the underlay by sockets, from 0 to 1
	Rests                  []uint64        // of each worker, behind many datagrams
	Bursts                 [][2]Bursts     // of each worker: from ports, and from the underlay
}

// Bursts counts those that went through the pipeline: Sizes[i] of at most 1<<i packets, and more than half as many.
type Bursts struct {
	Packets uint64                   `json:"packets"`
	Sizes   [C.DP_BURST_SIZES]uint64 `json:"sizes"`
}

func address(addr netip.Addr) C.struct_dp_addr {
	var a C.struct_dp_addr
	for i, b := range addr.As16() {
		a.b[i] = C.uint8_t(b)
	}
	return a
}

func mac(m *[6]byte) *C.uint8_t { return (*C.uint8_t)(unsafe.Pointer(&m[0])) }

// failed turns a negative errno into an error.
func failed(ret C.int) error {
	if ret >= 0 {
		return nil
	}
	return syscall.Errno(-ret)
}

// Memory is what the pipeline needs for its packets and tables, in bytes.
func Memory(workers, deviceBuffers int) uint64 {
	return uint64(C.dp_memory(C.unsigned(workers), C.uint32_t(deviceBuffers)))
}

// Start starts EAL and the workers; once in a process.
func Start(c Config) error {
	fd, err := unix.FcntlInt(c.Log.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	c.Log.Close()
	if err != nil {
		return err
	}
	config := C.struct_dp_config{
		n_workers: C.unsigned(len(c.CPUs)),
		vtep:      address(c.VTEP),
		port:      C.uint16_t(c.Port),
		hugepages: C.bool(c.Hugepages),
		eth_mbufs: C.uint32_t(c.DeviceBuffers),
		claims_fd: C.int(c.Claims),
		log_fd:    C.int(fd),
	}
	if c.PCI != "" {
		config.pci = C.CString(c.PCI)
		defer C.free(unsafe.Pointer(config.pci))
	}
	for i, cpu := range c.CPUs {
		config.cpus[i] = C.unsigned(cpu)
	}
	var text [C.DP_ERR_LEN]C.char
	if C.dp_start(&config, &text[0]) < 0 {
		return errors.New(C.GoString(&text[0]))
	}
	return nil
}

// Stop ends the workers and EAL.
func Stop() { C.dp_stop() }

// OpenTap makes the persistent tap in the calling thread's network namespace, or attaches to the one that exists.
func OpenTap(name string, queues int) ([]int, error) {
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	var fds [MaxWorkers]C.int
	if err := failed(C.dp_tap_open(cname, C.unsigned(queues), &fds[0])); err != nil {
		return nil, err
	}
	opened := make([]int, queues)
	for i := range opened {
		opened[i] = int(fds[i])
	}
	return opened, nil
}

// CloseTap closes the queues, and the tap with them unless keep is set.
func CloseTap(fds []int, keep bool) {
	var queues [MaxWorkers]C.int
	for i, fd := range fds {
		queues[i] = C.int(fd)
	}
	C.dp_tap_close(C.unsigned(len(fds)), &queues[0], C.bool(keep))
}

// AddPort returns the port's number.
func AddPort(p Port) (uint32, error) {
	config := C.struct_dp_port_config{vni: C.uint32_t(p.VNI), mtu: C.uint16_t(cmp.Or(p.MTU, 1500)), trust: uint32(p.Trust)}
	for i, b := range p.MAC {
		config.mac[i] = C.uint8_t(b)
	}
	for _, addr := range p.Addrs {
		if addr.Is4() {
			config.has_ip4, config.ip4 = true, address(addr)
		} else {
			config.has_ip6, config.ip6 = true, address(addr)
		}
	}
	for i := range config.fds {
		config.fds[i] = -1
	}
	for i, fd := range p.FDs {
		config.fds[i] = C.int(fd)
	}
	config.rings = uint32(p.Rings)
	if p.Device != nil {
		config.has_device, config.device = true, C.uint32_t(*p.Device)
	}
	id := C.dp_port_add(&config)
	return uint32(id), failed(id)
}

// DelPort returns when no worker touches the port any more.
func DelPort(id uint32) error { return failed(C.dp_port_del(C.uint32_t(id))) }

// MapShared maps memory that is shared with a container by a file: a memfd, or one of a tmpfs or hugetlbfs; EINVAL: it is another, or shorter.
func MapShared(fd int, length uint64) (uint64, error) {
	var at C.uint64_t
	err := failed(C.dp_shared_map(C.int(fd), C.uint64_t(length), &at))
	return uint64(at), err
}

// UnmapShared is the end of that.
func UnmapShared(at uint64) { C.dp_shared_unmap(C.uint64_t(at)) }

// StopShared returns when no worker touches a port's rings any more.
func StopShared(port uint32) { C.dp_shared_stop(C.uint32_t(port)) }

// SharedFault is why a port's rings are not looked at any more: what its container did; empty: they are.
func SharedFault(port uint32) string {
	fault := C.dp_shared_fault(C.uint32_t(port))
	if fault == nil {
		return ""
	}
	return C.GoString(fault)
}

// VhostFeatures are those of virtio-net that a vhost-user port has.
var VhostFeatures = uint64(C.dp_vhost_features)

// VhostRegions is how many pieces of memory a container may share.
const VhostRegions = C.DP_SHARED_REGIONS

// VhostRegion is memory that a container shares: where its descriptors say that it is, and where it is mapped here.
type VhostRegion struct{ Guest, Len, Host uint64 }

// VhostRing is a virtqueue, by addresses in this process.
type VhostRing struct {
	Desc, Avail, Used uint64
	Size              uint16 // a power of two
}

// Vhost is what a container and a vhost-user port share.
type Vhost struct {
	Features uint64 // of VhostFeatures, that the container has accepted
	Regions  []VhostRegion
	From, To VhostRing // filled by the container, and by the workers
	Kick     int       // eventfd(2) by which the container tells of something in From
	Bell     int       // eventfd, non-blocking: the container wants to be woken up, or SharedFault has something to say
}

// StartVhost has workers read and write a port's rings until StopShared returns. Called beside other calls, for one port by one thread.
func StartVhost(port uint32, v Vhost) error {
	config := C.struct_dp_vhost_config{features: C.uint64_t(v.Features), n_regions: C.unsigned(len(v.Regions)), kick: C.int(v.Kick), bell: C.int(v.Bell)}
	for i, r := range v.Regions {
		config.regions[i].guest, config.regions[i].len, config.regions[i].host = C.uint64_t(r.Guest), C.uint64_t(r.Len), C.uint64_t(r.Host)
	}
	config.from, config.to = v.From.c(), v.To.c()
	return failed(C.dp_vhost_start(C.uint32_t(port), &config))
}

func (r VhostRing) c() C.struct_dp_vhost_ring {
	return C.struct_dp_vhost_ring{desc: C.uint64_t(r.Desc), avail: C.uint64_t(r.Avail), used: C.uint64_t(r.Used), size: C.uint16_t(r.Size)}
}

// VhostIndex is where a ring goes on, that is mapped.
func VhostIndex(r VhostRing) uint16 {
	at := r.c()
	return uint16(C.dp_vhost_index(&at))
}

// Sizes of a memif's rings, as powers of two.
const (
	MemifMin = C.DP_MEMIF_LOG2_MIN
	MemifMax = C.DP_MEMIF_LOG2_MAX
)

// MemifLen is how many bytes rings of a size and their buffers take.
func MemifLen(log2 uint) uint64 { return uint64(C.dp_memif_len(C.unsigned(log2))) }

// MemifLayout is where the rings begin that are filled by the container, and by workers.
func MemifLayout(log2 uint) (from, to uint32) {
	return uint32(C.dp_memif_ring(C.unsigned(log2), true)), uint32(C.dp_memif_ring(C.unsigned(log2), false))
}

// FormatMemif lays out memory that is mapped, for a container that has not seen it yet.
func FormatMemif(at uint64, log2 uint) { C.dp_memif_format(C.uint64_t(at), C.unsigned(log2)) }

// Memif is what a container and a memif port share.
type Memif struct {
	Memory uint64 // where it is mapped
	Log2   uint   // size of the rings
	Kick   int    // as in Vhost
	Bell   int
}

// StartMemif is as StartVhost, for a container that has said that it is connected.
func StartMemif(port uint32, m Memif) error {
	config := C.struct_dp_memif_config{host: C.uint64_t(m.Memory), log2: C.unsigned(m.Log2), kick: C.int(m.Kick), bell: C.int(m.Bell)}
	return failed(C.dp_memif_start(C.uint32_t(port), &config))
}

// OpenDevice opens an ethdev by its DPDK devargs, and returns its number, also when it does not start.
func OpenDevice(devargs string) (uint32, error) {
	args := C.CString(devargs)
	defer C.free(unsafe.Pointer(args))
	id := C.dp_device_open(args)
	return uint32(id), failed(id)
}

// RestartDevice stops the device and starts it again, unless its link is up; one that does not start stays down.
func RestartDevice(id uint32) error { return failed(C.dp_device_restart(C.uint32_t(id))) }

// CloseDevice returns when no worker touches the device any more; EBUSY while a port or a next hop uses it.
func CloseDevice(id uint32) error { return failed(C.dp_device_close(C.uint32_t(id))) }

// Device is what an ethdev tells of itself.
type Device struct {
	Driver  string
	MAC     [6]byte
	MTU     int  // bytes of outer IP packet
	Up      bool // started
	Ifindex int  // of the kernel's interface that it shares; 0: it is ours alone

	Offloads []string // what it does of the work on VXLAN packets, as users read it
}

// DeviceInfo describes an open device.
func DeviceInfo(id uint32) (Device, error) {
	var info C.struct_dp_device_info
	err := failed(C.dp_device_info(C.uint32_t(id), &info))
	d := Device{Driver: C.GoString(&info.driver[0]), MTU: int(info.mtu), Up: bool(info.up), Ifindex: int(info.ifindex), Offloads: []string{}}
	for i, b := range info.mac {
		d.MAC[i] = byte(b)
	}
	for _, o := range []struct {
		has  C.bool
		name string
	}{
		{info.tx_csum, "checksums of what is sent"},
		{info.tso, "cutting up of TCP super-frames"},
		{info.rx_csum, "checksums of what is received"},
	} {
		if o.has {
			d.Offloads = append(d.Offloads, o.name)
		}
	}
	return d, err
}

// SetUnderlay has VXLAN taken from the device.
func SetUnderlay(device uint32) error { return failed(C.dp_device_underlay(C.uint32_t(device))) }

// SetHost gives the kernel a device that is ours alone, by a tap's queues. Returns the port's number, for DelPort.
func SetHost(device uint32, fds []int) (uint32, error) {
	var queues [MaxWorkers]C.int
	for i, fd := range fds {
		queues[i] = C.int(fd)
	}
	id := C.dp_device_host(C.uint32_t(device), &queues[0])
	return uint32(id), failed(id)
}

// IgnoreInterface has the sockets take no VXLAN that arrives on a kernel's interface: a device has a copy of it.
func IgnoreInterface(ifindex int) error { return failed(C.dp_udp_ignore(C.uint32_t(ifindex))) }

// MoveVTEP has the sockets send from another address of this host, of the same family.
func MoveVTEP(to netip.Addr) error { return failed(C.dp_udp_move(address(to))) }

// ReadDevice reads what the device itself has counted.
func ReadDevice(id uint32) (Traffic, error) {
	var t C.struct_dp_traffic
	err := failed(C.dp_device_stats(C.uint32_t(id), &t))
	return traffic(t), err
}

// AddNet adds a network with an empty flood list. Encrypted: its packets are ESP on the underlay, and no others are taken.
func AddNet(vni uint32, encrypted bool) error {
	return failed(C.dp_net_add(C.uint32_t(vni), C.bool(encrypted)))
}

// SAsIn is how many SAs a VTEP may have for receiving, with those of others that share its address; SAPackets how many packets are sent under one at most.
const (
	SAsIn     = C.DP_SAS_IN
	SAPackets = C.DP_SA_PACKETS
)

// SPIMask is what an SPI may have of 32 bits: without the bit that tells a VXLAN header. Those below SPIMin are reserved.
const (
	SPIMask = ^uint32(C.DP_ESP_VXLAN_BIT)
	SPIMin  = 256
)

// AddSA makes a security association, and says its number, and whether its memory is never swapped. A key is given once for sending.
func AddSA(spi uint32, key []byte, salt [4]byte) (sa uint32, locked bool, err error) {
	var is C.bool
	config := C.struct_dp_sa_config{spi: C.uint32_t(spi), key_len: C.unsigned(len(key))}
	for i, b := range salt {
		config.salt[i] = C.uint8_t(b)
	}
	var pinned runtime.Pinner
	pinned.Pin(&key[0])
	defer pinned.Unpin()
	config.key = (*C.uint8_t)(unsafe.Pointer(&key[0]))
	id := C.dp_sa_add(&config, &is)
	return uint32(id), bool(is), failed(id)
}

// DelSA wipes an SA that is none of a VTEP's.
func DelSA(sa uint32) { C.dp_sa_del(C.uint32_t(sa)) }

// SAPacketsOf is how many packets were sent under an SA, or received.
func SAPacketsOf(sa uint32) uint64 { return uint64(C.dp_sa_packets(C.uint32_t(sa))) }

// SetPartial says whether a VTEP takes, in ESP, TCP and UDP checksums that were never computed.
func SetPartial(vtep uint32, takes bool) error {
	return failed(C.dp_vtep_partial(C.uint32_t(vtep), C.bool(takes)))
}

// SetSAs replaces a VTEP's SAs; out is nil where there is none.
func SetSAs(vtep uint32, out *uint32, in []uint32) error {
	var sends *C.uint32_t
	if out != nil {
		id := C.uint32_t(*out)
		sends = &id
	}
	return failed(C.dp_vtep_sas(C.uint32_t(vtep), sends, first(in), C.unsigned(len(in))))
}

func first(s []uint32) *C.uint32_t { return (*C.uint32_t)(unsafe.Pointer(unsafe.SliceData(s))) }

// DelNet removes it.
func DelNet(vni uint32) error { return failed(C.dp_net_del(C.uint32_t(vni))) }

// SetFlood replaces a network's flood list.
func SetFlood(vni uint32, ports, vteps []uint32) error {
	return failed(C.dp_net_flood(C.uint32_t(vni), first(ports), C.unsigned(len(ports)), first(vteps), C.unsigned(len(vteps))))
}

// AddVTEP returns the VTEP's number.
func AddVTEP(vtep netip.AddrPort) (uint32, error) {
	id := C.dp_vtep_add(address(vtep.Addr()), C.uint16_t(vtep.Port()))
	return uint32(id), failed(id)
}

// SetNextHop has packets to the VTEP leave through the device for an Ethernet address; before, the kernel sends them.
func SetNextHop(vtep, device uint32, m [6]byte) error {
	return failed(C.dp_vtep_next_hop(C.uint32_t(vtep), C.uint32_t(device), mac(&m)))
}

// DelNextHop has the kernel send them again.
func DelNextHop(vtep uint32) error { return failed(C.dp_vtep_by_kernel(C.uint32_t(vtep))) }

// OpenGSOTap makes a tap that takes super-frames inside of VXLAN, in the calling thread's network namespace; EINVAL: a kernel before
// Linux 6.17. It lives as long as its files, Sources for each worker. Returned is its name too, which is made of the pattern.
func OpenGSOTap(pattern string, workers int) (fds []int, name string, err error) {
	var text [unix.IFNAMSIZ]C.char
	for i := range min(len(pattern), len(text)-1) {
		text[i] = C.char(pattern[i])
	}
	var files gsoFiles
	if err := failed(C.dp_gso_tap_open(&text[0], C.unsigned(workers), &files[0])); err != nil {
		return nil, "", err
	}
	for _, fd := range files[:workers*Sources] {
		fds = append(fds, int(fd))
	}
	return fds, C.GoString(&text[0]), nil
}

// CloseGSOTap removes it.
func CloseGSOTap(fds []int) {
	files := gsoFilesOf(fds)
	C.dp_gso_tap_close(C.unsigned(len(fds)/Sources), &files[0])
}

type gsoFiles [MaxWorkers * Sources]C.int

func gsoFilesOf(fds []int) (files gsoFiles) {
	for i, fd := range fds {
		files[i] = C.int(fd)
	}
	return files
}

// SetWhole has super-frames of TCP, and with udp those of UDP too, go to the VTEP in one piece, through such a tap and by an interface.
func SetWhole(vtep uint32, fds []int, ifindex int, udp bool) error {
	files := gsoFilesOf(fds)
	return failed(C.dp_vtep_whole(C.uint32_t(vtep), &files[0], C.uint32_t(ifindex), C.bool(udp)))
}

// DelWhole has them cut up again.
func DelWhole(vtep uint32) error { return SetWhole(vtep, nil, 0, false) }

// SetMTU has packets to the VTEP of more than so many bytes of outer IP packet answered, fragmented or dropped.
func SetMTU(vtep uint32, mtu int) error {
	return failed(C.dp_vtep_mtu(C.uint32_t(vtep), C.uint32_t(mtu)))
}

// Doubts are the VTEPs to which the kernel has refused packets that are not too long since the last call.
func Doubts() []uint32 {
	var ids [MaxVTEPs]C.uint32_t
	n := C.dp_vtep_doubts(&ids[0])
	doubts := make([]uint32, n)
	for i := range doubts {
		doubts[i] = uint32(ids[i])
	}
	return doubts
}

// DoubtsFD is an eventfd that becomes readable when there are new ones. It is the pipeline's.
func DoubtsFD() int { return int(C.dp_vtep_doubts_fd()) }

// DelVTEP removes it; no forwarding entry may name it any more.
func DelVTEP(id uint32) error { return failed(C.dp_vtep_del(C.uint32_t(id))) }

// SetMACVTEP points a MAC at a VTEP, SetMACPort at a port.
func SetMACVTEP(vni uint32, m [6]byte, vtep uint32) error {
	return failed(C.dp_fdb_set_vtep(C.uint32_t(vni), mac(&m), C.uint32_t(vtep)))
}

// SetMACPort points a MAC at a local port.
func SetMACPort(vni uint32, m [6]byte, port uint32) error {
	return failed(C.dp_fdb_set_port(C.uint32_t(vni), mac(&m), C.uint32_t(port)))
}

// DelMAC forgets a MAC.
func DelMAC(vni uint32, m [6]byte) error { return failed(C.dp_fdb_del(C.uint32_t(vni), mac(&m))) }

// SetNeighbour gives an address its MAC. An extra one is no port's own, so that who is trusted may claim it.
func SetNeighbour(vni uint32, addr netip.Addr, m [6]byte, extra bool) error {
	return failed(C.dp_neigh_set(C.uint32_t(vni), address(addr), mac(&m), C.bool(extra)))
}

// DelNeighbour forgets an address.
func DelNeighbour(vni uint32, addr netip.Addr) error {
	return failed(C.dp_neigh_del(C.uint32_t(vni), address(addr)))
}

// ReadStats adds the workers' counters up.
func ReadStats() Stats {
	var s C.struct_dp_stats
	C.dp_stats(&s)
	stats := Stats{
		MbufsInUse: uint32(s.mbufs_in_use),
		MbufsTotal: uint32(s.mbufs_total),
		Underlay:   traffic(s.underlay),
		Whole:      uint64(s.whole),
		Drops:      make(map[string]uint64, C.DP_DROP_COUNT),
	}
	for _, ns := range s.cpu_ns {
		stats.CPU = append(stats.CPU, time.Duration(ns))
	}
	for _, fill := range s.queue_fill {
		stats.QueueFill = append(stats.QueueFill, float64(fill))
	}
	for _, rests := range s.rests {
		stats.Rests = append(stats.Rests, uint64(rests))
	}
	for _, b := range s.bursts {
		stats.Bursts = append(stats.Bursts, [2]Bursts{bursts(b[C.DP_ORIGIN_PORTS]), bursts(b[C.DP_ORIGIN_UNDERLAY])})
	}
	for i, count := range s.drops {
		stats.Drops[C.GoString(C.dp_drop_name(C.unsigned(i)))] = uint64(count)
	}
	return stats
}

// WorkerAnswers wakes a worker, and says whether it has taken the wake before.
func WorkerAnswers(worker int) bool { return bool(C.dp_worker_answers(C.unsigned(worker))) }

func bursts(b C.struct_dp_bursts) Bursts {
	counted := Bursts{Packets: uint64(b.packets)}
	for i, n := range b.sizes {
		counted.Sizes[i] = uint64(n)
	}
	return counted
}

// Stage is what one stage of the workers' turns has cost while it was measured.
type Stage struct {
	Name, Help      string
	Cycles, Packets uint64
}

// MeasureStages has workers count the cycles of each stage from their next turn on, or no longer.
func MeasureStages(on bool) { C.dp_stages_measure(C.bool(on)) }

// ReadStages adds the workers' counts up, in the order of a packet's way.
func ReadStages() []Stage {
	var sums [C.DP_STAGE_COUNT]C.struct_dp_stage_sum
	C.dp_stages(&sums[0])
	stages := make([]Stage, len(sums))
	for i, sum := range sums {
		n := C.unsigned(i)
		stages[i] = Stage{C.GoString(C.dp_stage_name(n)), C.GoString(C.dp_stage_help(n)), uint64(sum.cycles), uint64(sum.packets)}
	}
	return stages
}

// CyclesHz is how many of a stage's cycles are a second.
func CyclesHz() uint64 { return uint64(C.dp_cycles_hz()) }

// ReadPort reads one port's counters, and the reasons for which what its container sent or was to get was dropped; it must exist.
func ReadPort(id uint32) (Traffic, map[string]uint64, error) {
	var t C.struct_dp_traffic
	var counts [C.DP_DROP_COUNT]C.uint64_t
	err := failed(C.dp_port_stats(C.uint32_t(id), &t, &counts[0]))
	drops := map[string]uint64{}
	for i, count := range counts {
		if count > 0 {
			drops[C.GoString(C.dp_drop_name(C.unsigned(i)))] = uint64(count)
		}
	}
	return traffic(t), drops, err
}

// ReadVTEP reads a VTEP's counters, of VXLAN packets as UDP payload; it must exist.
func ReadVTEP(id uint32) (Traffic, error) {
	var t C.struct_dp_traffic
	err := failed(C.dp_vtep_stats(C.uint32_t(id), &t))
	return traffic(t), err
}

// DropReason says in words why packets are dropped under a name; empty when no drop is called so.
func DropReason(name string) string {
	for i := range C.unsigned(C.DP_DROP_COUNT) {
		if C.GoString(C.dp_drop_name(i)) == name {
			return C.GoString(C.dp_drop_help(i))
		}
	}
	return ""
}

func traffic(t C.struct_dp_traffic) Traffic {
	return Traffic{uint64(t.rx_packets), uint64(t.rx_bytes), uint64(t.tx_packets), uint64(t.tx_bytes), uint64(t.trusted)}
}
