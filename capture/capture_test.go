package capture_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/capture"
	"github.com/overlane/overlane/datapath"
)

// source is a datapath's capture of packets that the test gives it.
type source struct {
	mu     sync.Mutex
	waits  []datapath.Captured
	lost   uint64
	closed bool
}

func (s *source) Take() ([]datapath.Captured, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.waits
	s.waits = nil
	return taken, s.lost, nil
}

func (s *source) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

func (s *source) give(lost uint64, packets ...datapath.Captured) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waits = append(s.waits, packets...)
	s.lost = lost
}

func (s *source) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// cluster is some managers, each of which reaches the others.
type cluster struct {
	mu       sync.Mutex
	managers map[string]*capture.Manager
	sources  map[string][]*source
	asked    map[string][]datapath.CaptureConfig
	cut      map[string]bool // hosts that nothing reaches
	lost     map[string]int  // packets that nobody got, by their sender
}

func newCluster(t *testing.T, whole bool, hosts ...string) *cluster {
	c := &cluster{managers: map[string]*capture.Manager{}, sources: map[string][]*source{}, asked: map[string][]datapath.CaptureConfig{}, cut: map[string]bool{}, lost: map[string]int{}}
	log := logrus.New()
	log.SetOutput(io.Discard)
	for _, host := range hosts {
		c.managers[host] = capture.NewManager(capture.Config{
			Capture: func(config datapath.CaptureConfig) (capture.Source, error) { return c.open(host, config) },
			Send:    func(to string, text []byte) error { go c.deliver(host, to, text); return nil },
			Whole:   whole, Called: func(member string) string { return member }, Log: log,
		})
		t.Cleanup(c.managers[host].Close)
	}
	return c
}

func (c *cluster) open(host string, config datapath.CaptureConfig) (capture.Source, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if config.Filter == "wrong" {
		return nil, errors.New("syntax error")
	}
	c.asked[host] = append(c.asked[host], config)
	c.sources[host] = append(c.sources[host], new(source))
	return c.sources[host][len(c.sources[host])-1], nil
}

func (c *cluster) deliver(from, to string, text []byte) {
	c.mu.Lock()
	m := c.managers[to]
	if c.cut[to] || c.cut[from] {
		m = nil
		c.lost[from] += bytes.Count(text, []byte("hello"))
	}
	c.mu.Unlock()
	if m != nil {
		m.Receive(from, text)
	}
}

// source waits until the host captures.
func (c *cluster) source(t *testing.T, host string) (s *source) {
	waitFor(t, host+" captures", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if n := len(c.sources[host]); n > 0 {
			s = c.sources[host][n-1]
		}
		return s != nil
	})
	return s
}

func (c *cluster) setCut(host string, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut[host] = cut
}

func (c *cluster) lostPackets(host string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost[host]
}

func waitFor(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// seen is what a session has given.
type seen struct {
	mu      sync.Mutex
	packets []capture.Packet
	reports []capture.Report
	stop    context.CancelFunc
	err     chan error
}

func (c *cluster) run(t *testing.T, q capture.Query, members ...string) *seen {
	ctx, cancel := context.WithCancel(context.Background())
	s := &seen{stop: cancel, err: make(chan error, 1)}
	go func() {
		s.err <- c.managers["a"].Run(ctx, q, true, members, func(packets []capture.Packet, reports []capture.Report) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.packets, s.reports = append(s.packets, packets...), reports
			return nil
		})
	}()
	t.Cleanup(cancel)
	return s
}

func (s *seen) times() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.packets {
		all = append(all, fmt.Sprintf("%s%d", p.Host, p.Time.UnixNano()))
	}
	return all
}

func (s *seen) packet(i int) capture.Packet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.packets[i]
}

func (s *seen) report(host string) (r capture.Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.reports {
		if r.Host == host {
			return r
		}
	}
	return r
}

var query = capture.Query{VNI: 5000, Points: datapath.Points[:], Sample: 1, Snap: 1500, Filter: "tcp"}

// frame is an Ethernet frame with a TCP segment.
func frame(t *testing.T, payload string) []byte {
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.IP{10, 0, 0, 1}, DstIP: net.IP{10, 0, 0, 2}}
	tcp := &layers.TCP{SrcPort: 40000, DstPort: 80, Seq: 1000, ACK: true}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	b := gopacket.NewSerializeBuffer()
	ethernet := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ethernet, ip, tcp, gopacket.Payload(payload)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func captured(data []byte, at int64) datapath.Captured {
	return datapath.Captured{Time: time.Unix(0, at), Point: datapath.PointRead, VNI: 5000, Len: len(data), Port: datapath.MAC{2, 0, 0, 0, 0, 1}, Data: data}
}

// Packets of several hosts come in order of time, whichever came first.
func TestOrder(t *testing.T) {
	c := newCluster(t, true, "a", "b", "c")
	s := c.run(t, query, "b", "c")
	f := frame(t, "hello")
	c.source(t, "c").give(0, captured(f, 3), captured(f, 6))
	c.source(t, "b").give(0, captured(f, 2), captured(f, 5))
	c.source(t, "a").give(0, captured(f, 1), captured(f, 4))
	waitFor(t, "six packets are there", func() bool { return len(s.times()) == 6 })
	// They are much older than the window: what matters is that each batch is in order.
	s.stop()
	if err := <-s.err; err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"a", "b", "c"} {
		waitFor(t, host+" ends", c.source(t, host).isClosed)
	}
	all := s.times()
	slices.Sort(all)
	if got := strings.Join(all, " "); got != "1 4 b2 b5 c3 c6" {
		t.Error(got)
	}
	if got := c.asked["b"][0]; got.VNI != 5000 || got.Filter != "tcp" || got.Sample != 1 || got.Snap != 1500 || len(got.Points) != 5 {
		t.Errorf("b was asked for %+v", got)
	}
}

// Other hosts get headers alone, unless the operator there wants it otherwise.
func TestHeadersOnly(t *testing.T) {
	for _, whole := range []bool{false, true} {
		c := newCluster(t, whole, "a", "b")
		s := c.run(t, query, "b")
		f := frame(t, "a secret of this container")
		c.source(t, "b").give(0, captured(f, 1))
		waitFor(t, "it is there", func() bool { return len(s.times()) == 1 })
		got := s.packet(0)
		if has := bytes.Contains(got.Data, []byte("secret")); has != whole || s.report("b").HeadersOnly == whole || got.Len != len(f) {
			t.Errorf("whole %v: %q, %+v", whole, got.Data, s.report("b"))
		}
		if len(got.Data) < 54 {
			t.Errorf("%d bytes of headers", len(got.Data))
		}
		c.source(t, "a").give(0, captured(f, 2))
		waitFor(t, "that of this host is there", func() bool { return len(s.times()) == 2 })
		if got := s.packet(1); !bytes.Contains(got.Data, []byte("secret")) || got.Identity != s.packet(0).Identity {
			t.Errorf("of this host: %q", got.Data)
		}
	}
}

// Nothing behind headers is given of any kind of frame, not of later fragments either.
func TestHeadersOnlyOfEveryKind(t *testing.T) {
	c := newCluster(t, false, "a", "b")
	s := c.run(t, query, "b")
	given := 0
	for _, f := range frames(t) {
		c.source(t, "b").give(0, captured(f, 1))
		given++
		waitFor(t, "it is there", func() bool { return len(s.times()) == given })
	}
	for i := range given {
		if got := s.packet(i); bytes.Contains(got.Data, []byte("se")) || bytes.Contains(got.Data, []byte{1, 2, 3}) {
			t.Errorf("given: %q", got.Data)
		}
	}
}

// What is lost on either side, and on the way, is counted; a host that does not answer is told.
func TestLosses(t *testing.T) {
	c := newCluster(t, true, "a", "b", "c")
	c.setCut("c", true)
	s := c.run(t, query, "b", "c")
	f := frame(t, "hello")
	b := c.source(t, "b")
	b.give(7, captured(f, 1))
	waitFor(t, "seven are lost", func() bool { return s.report("b").Lost == 7 && s.report("b").Captured == 1 })
	c.setCut("b", true)
	b.give(7, captured(f, 2), captured(f, 3))
	waitFor(t, "the reply with both got lost", func() bool { return c.lostPackets("b") == 2 })
	c.setCut("b", false)
	waitFor(t, "nine are lost", func() bool { return s.report("b").Lost == 9 })
	waitFor(t, "c is silent", func() bool { return s.report("c").Silent })
	c.source(t, "a").give(3)
	waitFor(t, "three of this host are lost", func() bool { return s.report("").Lost == 3 })
}

// A host whose asker is gone ends by itself.
func TestAskerIsGone(t *testing.T) {
	c := newCluster(t, true, "a", "b")
	c.run(t, query, "b")
	b := c.source(t, "b")
	c.setCut("a", true)
	waitFor(t, "b ends", b.isClosed)
}

func TestRefusals(t *testing.T) {
	c := newCluster(t, true, "a", "b")
	wrong := query
	wrong.Filter = "wrong"
	s := c.run(t, wrong)
	if err := <-s.err; err == nil || err.Error() != "syntax error" {
		t.Errorf("here: %v", err)
	}
	var all []*seen
	for range 5 {
		all = append(all, c.run(t, query, "b"))
	}
	waitFor(t, "one of five is refused", func() bool {
		refused := 0
		for _, s := range all {
			if strings.Contains(s.report("b").Error, "already") {
				refused++
			}
		}
		return refused == 1
	})
}

func TestFile(t *testing.T) {
	var out bytes.Buffer
	f, err := capture.NewFile(&out, "node1", "v1", true)
	if err != nil {
		t.Fatal(err)
	}
	sent := captured(frame(t, "hello"), 1e18)
	sent.Point, sent.VTEP, sent.Port = datapath.PointSent, netip.MustParseAddrPort("192.0.2.2:4789"), datapath.MAC{}
	dropped := captured([]byte("\x00no VXLAN"), 1e18+1)
	dropped.Point, dropped.Payload, dropped.Drop, dropped.VTEP = datapath.PointDropped, true, "vxlan_flags", netip.MustParseAddrPort("192.0.2.9:0")
	for _, c := range []datapath.Captured{captured(frame(t, "hello"), 1e18), sent, dropped} {
		p := capture.Packet{Captured: c}
		e := capture.Describe(p)
		e.Host, e.Container, e.Peer, e.Own = "node1", "web", "node2", netip.MustParseAddrPort("192.0.2.1:4789")
		if c.Point != datapath.PointRead {
			e.Container = ""
		}
		if err := f.Write(p, &e); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(map[string]capture.Report{"node1": {Captured: 3, Lost: 2}}); err != nil {
		t.Fatal(err)
	}
	reader, err := pcapgo.NewNgReader(&out, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		data, info, _, err := reader.ReadPacketDataWithOptions()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		i, _ := reader.Interface(info.InterfaceIndex)
		first := gopacket.LayerType(layers.LayerTypeEthernet)
		if i.LinkType == layers.LinkTypeRaw {
			first = layers.LayerTypeIPv4
		}
		text := i.Name
		for _, l := range gopacket.NewPacket(data, first, gopacket.Default).Layers() {
			text += " " + l.LayerType().String()
		}
		got = append(got, text)
	}
	want := []string{
		"node1 web Ethernet IPv4 TCP Payload",
		"node1 vxlan node2 IPv4 UDP VXLAN Ethernet IPv4 TCP Payload",
		"node1 drops IPv4 UDP",
	}
	for i := range want {
		if i >= len(got) || !strings.HasPrefix(got[i], want[i]) {
			t.Fatalf("%q, want %q", got, want)
		}
	}
}

func TestDescribe(t *testing.T) {
	p := capture.Packet{Captured: captured(frame(t, "hello"), 1)}
	e := capture.Describe(p)
	if e.Packet != "TCP 10.0.0.1:40000 > 10.0.0.2:80 [.] seq 1000, 5 bytes" || e.Flow != "10.0.0.1:40000 > 10.0.0.2:80" || e.Seq != 1000 || e.Payload != 5 {
		t.Errorf("%+v", e)
	}
}

func FuzzMessage(f *testing.F) {
	m := capture.NewManager(capture.Config{
		Capture: func(datapath.CaptureConfig) (capture.Source, error) { return nil, errors.New("none") },
		Send:    func(string, []byte) error { return nil }, Called: func(m string) string { return m }, Log: &logrus.Logger{Out: io.Discard, Formatter: new(logrus.TextFormatter)},
	})
	f.Add([]byte{capture.ProtocolVersion})
	f.Add([]byte{capture.ProtocolVersion, 9, 1, 2, 3, 4, 5, 6, 7, 8, 26, 2, 8, 1})
	f.Fuzz(func(_ *testing.T, b []byte) { m.Receive("b", b) })
}
