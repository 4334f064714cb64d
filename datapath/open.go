package datapath

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/overlane/overlane/datapath/dp"
	"github.com/sirupsen/logrus"
)

// Config starts the pipeline.
type Config struct {
	CPUs []int              // one worker is pinned to each
	VTEP netip.Addr         // this host's tunnel address: the outer source
	Port uint16             // UDP port on which VXLAN is received
	Log  logrus.FieldLogger // also takes DPDK's own log
}

var errClosed = errors.New("the datapath is closed")

// opened is set by the first Open.
var opened atomic.Bool

// Datapath is the running pipeline. There is one in a process: DPDK allows no more.
type Datapath struct {
	log       logrus.FieldLogger
	workers   []int
	hugepages bool

	mu     sync.Mutex // held by every call
	closed bool
	ports  map[PortID]*port
	nets   map[uint32]*network
	vteps  map[netip.AddrPort]*vtep
}

// Open starts DPDK and the workers. It takes a few hundred milliseconds.
func Open(c Config) (*Datapath, error) {
	if len(c.CPUs) == 0 || len(c.CPUs) > dp.MaxWorkers {
		return nil, fmt.Errorf("%d worker CPUs: want 1 to %d", len(c.CPUs), dp.MaxWorkers)
	}
	if err := checkAddr(c.VTEP); err != nil {
		return nil, fmt.Errorf("VTEP %w of this host", err)
	}
	if opened.Swap(true) {
		return nil, errors.New("the datapath was opened before: DPDK starts once in a process")
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	go copyLog(reader, c.Log)
	huge := freeHugepages() >= dp.Memory(len(c.CPUs), 0)
	if err := dp.Start(dp.Config{CPUs: c.CPUs, VTEP: c.VTEP, Port: c.Port, Hugepages: huge, Log: writer}); err != nil {
		return nil, err
	}
	return &Datapath{
		log:       c.Log,
		workers:   c.CPUs,
		hugepages: huge,
		ports:     map[PortID]*port{},
		nets:      map[uint32]*network{},
		vteps:     map[netip.AddrPort]*vtep{},
	}, nil
}

// Close stops the workers; calls after it fail. The taps stay, so that containers keep their interfaces until the next Open.
func (d *Datapath) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	for id, p := range d.ports {
		if err := dp.DelPort(uint32(id)); err != nil {
			return fmt.Errorf("port %s: %w", p.config.Name, err)
		}
		dp.CloseTap(p.fds, true)
	}
	clear(d.ports)
	clear(d.nets)
	dp.Stop()
	return nil
}

// freeHugepages is in bytes, over all sizes.
func freeHugepages() uint64 {
	var free uint64
	dirs, _ := filepath.Glob("/sys/kernel/mm/hugepages/hugepages-*kB")
	for _, dir := range dirs {
		kilobytes, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(dir), "hugepages-"), "kB"), 10, 64)
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, "free_hugepages"))
		if err != nil {
			continue
		}
		pages, _ := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		free += pages * kilobytes << 10
	}
	return free
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
