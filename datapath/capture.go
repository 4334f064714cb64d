package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/datapath/dp"
)

// Point is where on its way a packet is captured.
type Point string

// In the order of a packet's way. What is delivered, an interface may still refuse: a drop follows then.
const (
	PointRead      Point = "read"      // from a container
	PointSent      Point = "sent"      // to a VTEP: not yet cut up nor encrypted
	PointReceived  Point = "received"  // from a VTEP: decrypted, not yet merged with others
	PointDelivered Point = "delivered" // to a container
	PointDropped   Point = "dropped"
)

// Points are all of them, in order.
var Points = [dp.Points]Point{dp.PointRead: PointRead, dp.PointSent: PointSent, dp.PointReceived: PointReceived, dp.PointDelivered: PointDelivered, dp.PointDropped: PointDropped}

// Limits of a CaptureConfig.
const (
	MaxSnap   = dp.MaxFrame
	MaxSample = 1 << 20
	MinRoom   = dp.CaptureRoomMin
	MaxRoom   = 1 << 28
)

// CaptureConfig says which packets are captured.
type CaptureConfig struct {
	VNI    uint32     // 0: those of all networks
	MAC    *MAC       // of a container: what is from it and for it; nil: of all
	VTEP   netip.Addr // what is from it and for it, at the points that know one; zero: any
	Points []Point
	Sample int    // one packet in so many, the same ones on every host (RFC 5475 section 5.3.2); 1: all
	Snap   int    // bytes of a packet that are kept
	Room   int    // bytes that wait for Take, of each worker; a power of two
	Filter string // of the frame: pcap-filter(7); empty: all
	Opaque bool   // also drops of which no frame can be looked at, such as what does not decrypt: of any network

	Headers bool // the filter sees headers alone: what it asks of bytes behind them does not match
}

// Captured is a packet at a point of its way, or its beginning. Data is overwritten by the next Take.
type Captured struct {
	Time      time.Time
	Point     Point
	Drop      string // at PointDropped: the reason's name
	Len       int    // of the frame, in bytes
	VNI       uint32
	GSO       int            // payload of a super-frame's segments, in bytes; 0: it is none, or not known
	VTEP      netip.AddrPort // to or from which; zero: the point knows none
	Port      MAC            // the container's; zero: likewise
	Encrypted bool           // on the underlay
	Payload   bool           // Data is UDP payload of which no frame could be looked at
	Data      []byte
}

// Capture copies packets of the workers until it is closed. It never holds them up: what finds no room is lost, and counted.
type Capture struct {
	datapath *Datapath
	number   uint
	buffers  [][]byte // of each worker
}

func (c *CaptureConfig) check() error {
	switch {
	case c.VNI > MaxVNI:
		return fmt.Errorf("capture: VNI %d: want 1 to %d, or 0 for all networks", c.VNI, MaxVNI)
	case c.Sample < 1 || c.Sample > MaxSample:
		return fmt.Errorf("capture: sample %d: want 1 to %d, for one packet in so many", c.Sample, MaxSample)
	case c.Snap < 1 || c.Snap > MaxSnap:
		return fmt.Errorf("capture: snap length %d: want 1 to %d bytes", c.Snap, MaxSnap)
	case c.Room < MinRoom || c.Room > MaxRoom || c.Room&(c.Room-1) != 0:
		return fmt.Errorf("capture: room for %d bytes: want a power of two, %d to %d", c.Room, MinRoom, MaxRoom)
	case len(c.Points) == 0:
		return fmt.Errorf("capture: no point: want some of %v", Points)
	}
	return checkFilter(c.Filter)
}

// Capture begins to capture packets. At most eight captures are under way at a time.
func (d *Datapath) Capture(c CaptureConfig) (*Capture, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	config := dp.CaptureConfig{VNI: c.VNI, MAC: (*[6]byte)(c.MAC), VTEP: c.VTEP, Sample: uint32(c.Sample), Snap: uint32(c.Snap), Room: uint32(c.Room), Filter: c.Filter, Opaque: c.Opaque, Headers: c.Headers}
	for _, p := range c.Points {
		n, err := p.number()
		if err != nil {
			return nil, err
		}
		config.Points = append(config.Points, n)
	}
	made, err := dp.NewCapture(config)
	if err != nil {
		return nil, fmt.Errorf("capture: filter %q: %w", c.Filter, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		made.Free()
		return nil, errClosed
	}
	number, err := dp.StartCapture(made)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("%d captures are under way, more are not made at a time: end one of them", dp.Captures)
	}
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	capture := &Capture{datapath: d, number: number}
	for range d.workers {
		capture.buffers = append(capture.buffers, make([]byte, MinRoom))
	}
	d.captures[capture] = true
	return capture, nil
}

func (p Point) number() (dp.Point, error) {
	for n, name := range Points {
		if name == p {
			return dp.Point(n), nil
		}
	}
	return 0, fmt.Errorf("capture: point %q: want one of %v", p, Points)
}

// Take takes packets that were captured since the last call, as many as there is room for: those of a worker are in order of time. None: there
// are no more. Lost is how many found no room since the beginning. An error says that the datapath was closed, or the capture.
func (c *Capture) Take() (taken []Captured, lost uint64, err error) {
	c.datapath.mu.Lock()
	defer c.datapath.mu.Unlock()
	if !c.datapath.captures[c] {
		return nil, 0, errClosed
	}
	for worker, buffer := range c.buffers {
		for _, p := range dp.TakeCaptured(c.number, uint(worker), buffer) {
			taken = append(taken, Captured{time.Unix(0, p.Time), Points[p.Point], p.Drop, int(p.Len), p.VNI, int(p.GSO), p.VTEP, p.Port, p.Encrypted, p.Payload, p.Data})
		}
	}
	return taken, dp.LostCaptured(c.number), nil
}

// Close ends the capture, also of a datapath that is closed.
func (c *Capture) Close() {
	c.datapath.mu.Lock()
	defer c.datapath.mu.Unlock()
	if c.datapath.captures[c] {
		delete(c.datapath.captures, c)
		dp.StopCapture(c.number)
	}
}
