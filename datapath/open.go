package datapath

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/overlane/overlane/datapath/dp"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// Config starts the pipeline.
type Config struct {
	CPUs     []int      // one worker is pinned to each
	VTEP     netip.Addr // this host's tunnel address: the outer source
	Underlay Underlay
	Port     uint16             // UDP port on which VXLAN is received
	Log      logrus.FieldLogger // also takes DPDK's own log

	NativeDir string // see Native; empty: NativeDir
}

var errClosed = errors.New("the datapath is closed")

// opened is set by the first Open.
var opened atomic.Bool

// Datapath is the running pipeline. There is one in a process: DPDK allows no more.
type Datapath struct {
	log       logrus.FieldLogger
	workers   []int
	hugepages bool
	nativeDir string

	measuring sync.Mutex // held by Stages, before mu

	mu          sync.Mutex // held by every call
	closed      bool
	ports       map[PortID]*port
	aliases     map[string]PortID // of ports
	nets        map[uint32]*network
	vteps       map[netip.AddrPort]*vtep
	device      *device                 // nil: the kernel's sockets are the underlay
	whole       *wholeFrames            // nil: all super-frames are cut up
	whyNotWhole error                   // where they might not be
	takeWhole   map[netip.AddrPort]bool // see SetTakeWhole
	sas         map[netip.AddrPort]vtepSAs
	unlocked    bool   // an SA has been found to be in memory that may be swapped
	survey      survey // the last look at all network namespaces
	captures    map[*Capture]bool
	claims      *os.File // eventfd(2) of the workers
	paths       *paths
	watchdog    *watchdog

	announced map[netip.AddrPort]int // MTUs: see SetReceiveMTUs
}

// Open starts DPDK and the workers. It takes a few hundred milliseconds.
func Open(c Config) (*Datapath, error) {
	if len(c.CPUs) == 0 || len(c.CPUs) > dp.MaxWorkers {
		return nil, fmt.Errorf("%d worker CPUs: want 1 to %d", len(c.CPUs), dp.MaxWorkers)
	}
	if err := checkAddr(c.VTEP); err != nil {
		return nil, fmt.Errorf("VTEP %w of this host", err)
	}
	if err := c.Underlay.Check(); err != nil {
		return nil, fmt.Errorf("underlay %q: %w", c.Underlay.Device, err)
	}
	if opened.Swap(true) {
		return nil, errors.New("the datapath was opened before: DPDK starts once in a process")
	}
	d := &Datapath{
		log:       c.Log,
		workers:   c.CPUs,
		nativeDir: cmp.Or(c.NativeDir, NativeDir),
		ports:     map[PortID]*port{},
		aliases:   map[string]PortID{},
		nets:      map[uint32]*network{},
		vteps:     map[netip.AddrPort]*vtep{},
		sas:       map[netip.AddrPort]vtepSAs{},
		captures:  map[*Capture]bool{},
	}
	if err := d.startUnderlay(c); err != nil && c.Underlay.Device == "" {
		return nil, err
	} else if err != nil {
		return nil, fmt.Errorf("underlay %q: %w", c.Underlay.Device, err)
	}
	if err := d.followPaths(c.VTEP); err != nil {
		return nil, errors.Join(fmt.Errorf("follow the kernel's routes: %w", err), d.Close())
	}
	d.watchWorkers()
	return d, nil
}

func (d *Datapath) startUnderlay(c Config) error {
	if !c.Underlay.sockets() {
		return d.startOnDevice(c)
	}
	if c.Underlay.Device != UnderlayUDP {
		whole, err := openWholeFrames(len(c.CPUs))
		switch {
		case err == nil:
			whole.unasked = c.Underlay.Device == ""
			d.whole = whole
		case c.Underlay.Device == UnderlayTun:
			return err
		default:
			d.whyNotWhole = err
			d.log.WithError(err).Info("super-frames are cut up by overlane itself")
		}
	}
	err := d.start(c, 0)
	if err != nil && d.whole != nil {
		d.whole.close()
	}
	return err
}

func (d *Datapath) start(c Config, buffers int) error {
	reader, writer, err := os.Pipe()
	if err != nil {
		return err
	}
	go copyLog(reader, c.Log)
	claims, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return err
	}
	d.claims = os.NewFile(uintptr(claims), "claims")
	d.hugepages = wantHugepages(dp.Memory(len(c.CPUs), buffers))
	err = dp.Start(dp.Config{CPUs: c.CPUs, VTEP: c.VTEP, Port: c.Port, Hugepages: d.hugepages, DeviceBuffers: buffers, Claims: claims, PCI: c.Underlay.pci(), Log: writer})
	if err != nil && d.hugepages {
		return reexec(c.Log, err)
	}
	return err
}

func (d *Datapath) startOnDevice(c Config) (err error) {
	var hostFDs []int
	if c.Underlay.Addr.IsValid() {
		if hostFDs, err = c.Underlay.makeHostTap(len(c.CPUs)); err != nil {
			return err
		}
	}
	defer func() {
		if err != nil && hostFDs != nil {
			dp.CloseTap(hostFDs, false)
		}
	}()
	if err := d.start(c, deviceBuffers*(len(c.CPUs)+1)); err != nil {
		return err
	}
	if d.device, err = openDevice(c.Underlay, netip.AddrPortFrom(c.VTEP, c.Port), hostFDs, len(c.CPUs)); err == nil {
		if err = d.followNextHops(c.VTEP); err != nil {
			d.device.close()
		}
	}
	if err != nil {
		dp.Stop()
	}
	return err
}

// Close stops the workers; calls after it fail. The taps stay, so that containers keep their interfaces until the next Open.
func (d *Datapath) Close() error {
	if d.device != nil {
		d.device.nextHops.stop()
	}
	if d.paths != nil {
		d.paths.stop()
	}
	if d.watchdog != nil {
		d.watchdog.stop()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	for c := range d.captures {
		dp.StopCapture(c.number)
	}
	clear(d.captures)
	for _, p := range d.ports {
		if p.native != nil {
			p.native.cancel() // programs may take some time for their leave, all the same
		}
	}
	for id, p := range d.ports {
		if err := p.close(id, true); err != nil {
			return fmt.Errorf("port %s: %w", p.config.Name, err)
		}
	}
	clear(d.ports)
	clear(d.aliases)
	clear(d.nets)
	err := d.closeDevice()
	if d.paths != nil {
		d.paths.close()
	}
	dp.Stop()
	if d.whole != nil {
		d.whole.close()
	}
	d.claims.Close()
	return err
}

func (d *Datapath) closeDevice() error {
	if d.device == nil {
		return nil
	}
	for _, v := range d.vteps {
		dp.DelNextHop(v.id)
	}
	err := d.device.close()
	d.device.nextHops.close()
	if d.device.hostFDs != nil {
		dp.CloseTap(d.device.hostFDs, false)
	}
	return err
}

// copyLog passes DPDK's lines on, each behind its level (rte_log.h: 4 error, 5 warning, 6 notice, 7 information).
// What DPDK tells for information is its start-up chatter.
func copyLog(from *os.File, to logrus.FieldLogger) {
	defer from.Close()
	to = to.WithField("component", "dpdk")
	for lines := bufio.NewScanner(from); lines.Scan(); {
		level, text, _ := strings.Cut(lines.Text(), " ")
		switch {
		case level <= "4":
			to.Error(text)
		case level == "5":
			to.Warn(text)
		case level == "6":
			to.Info(text)
		default:
			to.Debug(text)
		}
	}
}
