package datapath_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/overlane/overlane/datapath"
)

// captured has a container and a peer whose packets are captured.
func captured(t testing.TB) {
	t.Helper()
	kernelPeer(t, peerWire)
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24")
}

func captureConfig(filter string) datapath.CaptureConfig {
	return datapath.CaptureConfig{VNI: vni, Points: datapath.Points[:], Sample: 1, Snap: datapath.MaxSnap, Room: 1 << 22, Filter: filter}
}

// capturing starts a capture, and returns what takes all that it has.
func capturing(t testing.TB, c datapath.CaptureConfig) func() []datapath.Captured {
	t.Helper()
	capture, err := plane.Capture(c)
	must(t, err)
	t.Cleanup(capture.Close)
	var all []datapath.Captured
	return func() []datapath.Captured {
		for {
			taken, lost, err := capture.Take()
			must(t, err)
			if lost > 0 {
				t.Fatalf("%d packets found no room", lost)
			}
			if len(taken) == 0 {
				return all
			}
			for _, p := range taken {
				p.Data = append([]byte(nil), p.Data...)
				all = append(all, p)
			}
		}
	}
}

// at is what was captured there, in order of time: a flow moves to the worker that writes its answers, and each has a buffer of its own.
func at(all []datapath.Captured, p datapath.Point) (some []datapath.Captured) {
	for _, c := range all {
		if c.Point == p {
			some = append(some, c)
		}
	}
	slices.SortStableFunc(some, func(a, b datapath.Captured) int { return a.Time.Compare(b.Time) })
	return some
}

func TestCaptureOfPing(t *testing.T) {
	captured(t)
	take := capturing(t, captureConfig("icmp"))
	run(t, containerNS, "ping -c 3 -i 0.01 -W 5 "+peerIP4)
	for _, p := range []datapath.Point{datapath.PointRead, datapath.PointSent, datapath.PointReceived, datapath.PointDelivered} {
		var seen []datapath.Captured
		waitFor(t, fmt.Sprintf("three packets that are %s", p), func() bool { seen = at(take(), p); return len(seen) == 3 })
		for i, c := range seen {
			icmp, _ := gopacket.NewPacket(c.Data, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
			if icmp == nil || int(icmp.Seq) != i+1 || c.VNI != vni || c.Len != len(c.Data) {
				t.Errorf("%s %d: %+v", p, i, c)
			}
			if far := p == datapath.PointSent || p == datapath.PointReceived; far != (c.VTEP.Addr() == peerWire.Addr()) {
				t.Errorf("%s %d: VTEP %s", p, i, c.VTEP)
			}
			if near := p == datapath.PointRead || p == datapath.PointDelivered; near != (c.Port == parseMAC(hostMAC)) {
				t.Errorf("%s %d: port %s", p, i, c.Port)
			}
		}
	}
	if dropped := at(take(), datapath.PointDropped); len(dropped) > 0 {
		t.Errorf("dropped: %+v", dropped)
	}
}

// What a capture does not ask for is not in it.
func TestCaptureOfOthers(t *testing.T) {
	captured(t)
	other := captureConfig("")
	other.VNI++
	host := captureConfig("icmp")
	host.MAC = &datapath.MAC{2, 1, 1, 1, 1, 1}
	vtep := captureConfig("icmp")
	vtep.VTEP = netip.MustParseAddr("10.9.2.77")
	points := captureConfig("icmp")
	points.Points = []datapath.Point{datapath.PointDropped}
	own := captureConfig("icmp")
	own.MAC = new(datapath.MAC)
	*own.MAC = parseMAC(hostMAC)
	short := captureConfig("icmp")
	short.Snap = 20
	for name, c := range map[string]struct {
		config datapath.CaptureConfig
		want   int
	}{
		"all":              {captureConfig("icmp"), 4},
		"another network":  {other, 0},
		"another MAC":      {host, 0},
		"another VTEP":     {vtep, 0},
		"drops":            {points, 0},
		"another protocol": {captureConfig("udp port 53"), 0},
		"its MAC":          {own, 4},
		"20 bytes":         {short, 4},
	} {
		t.Run(name, func(t *testing.T) {
			whole, take := capturing(t, captureConfig("icmp")), capturing(t, c.config)
			run(t, containerNS, "ping -c 1 -W 5 "+peerIP4)
			waitFor(t, "the answer", func() bool { return len(at(whole(), datapath.PointDelivered)) == 1 })
			waitFor(t, "as many packets", func() bool { return len(take()) >= c.want })
			got := take()
			if len(got) != c.want {
				t.Fatalf("%d packets, want %d: %+v", len(got), c.want, got)
			}
			for _, p := range got {
				if len(p.Data) != min(p.Len, c.config.Snap) {
					t.Errorf("%d bytes of %d", len(p.Data), p.Len)
				}
			}
		})
	}
}

func TestCaptureOfDrops(t *testing.T) {
	captured(t)
	config := captureConfig("")
	config.Points = []datapath.Point{datapath.PointDropped}
	take := capturing(t, config)
	run(t, containerNS, "ip neigh replace 10.62.0.77 lladdr 02:42:0a:3e:00:77 dev eth0 && ping -c 1 -W 1 10.62.0.77 || true")
	waitFor(t, "the drop", func() bool {
		return slices.ContainsFunc(take(), func(c datapath.Captured) bool { return c.Drop == "fdb_miss" && c.VNI == vni })
	})
}

// One in so many is the same one at every point: what is read is what is sent.
func TestCaptureOfSample(t *testing.T) {
	captured(t)
	config := captureConfig("icmp[icmptype] == icmp-echo")
	config.Sample = 4
	all := captureConfig(config.Filter)
	take, whole := capturing(t, config), capturing(t, all)
	run(t, containerNS, "ping -c 200 -i 0.002 -W 5 "+peerIP4)
	waitFor(t, "200 packets", func() bool { return len(at(whole(), datapath.PointSent)) == 200 })
	got := take()
	read, sent := at(got, datapath.PointRead), at(got, datapath.PointSent)
	if len(read) < 20 || len(read) > 90 {
		t.Errorf("%d of 200, want a quarter", len(read))
	}
	for i := range min(len(read), len(sent)) {
		if string(read[i].Data) != string(sent[i].Data) {
			t.Errorf("packet %d: read %x, sent %x", i, read[i].Data, sent[i].Data)
		}
	}
	if len(read) != len(sent) {
		t.Errorf("%d were read, %d sent", len(read), len(sent))
	}
}

// A TCP stream's super-frames are captured whole, and those that find no room are counted.
func TestCaptureOfStream(t *testing.T) {
	captured(t)
	config := captureConfig("tcp")
	config.Points, config.Room = []datapath.Point{datapath.PointRead, datapath.PointDelivered}, datapath.MinRoom
	capture, err := plane.Capture(config)
	must(t, err)
	t.Cleanup(capture.Close)
	all := captureConfig(config.Filter)
	all.Points, all.Snap, all.Room = config.Points, 64, 1<<22
	whole := capturing(t, all)
	server := start(t, peerNS, "iperf3", "-s", "-1", "-p", "5301")
	waitListening(t, peerNS, 5301)
	run(t, containerNS, "iperf3 -c "+peerIP4+" -p 5301 -n 50M")
	must(t, server.Wait())
	var seen, lost uint64
	waitFor(t, "all packets are captured or lost", func() bool {
		for {
			taken, now, err := capture.Take()
			must(t, err)
			seen, lost = seen+uint64(len(taken)), now
			if len(taken) == 0 {
				return seen+lost == uint64(len(whole()))
			}
		}
	})
	if seen == 0 || lost == 0 {
		t.Errorf("%d captured and %d lost of %d", seen, lost, len(whole()))
	}
}

// All that tcpdump takes without looking up a name is taken here.
func TestCaptureFilters(t *testing.T) {
	for _, filter := range []string{
		"tcp port 5432", "udp portrange 53-54", "host fe80::1 or net 10.0.0.0/8", "ether host 02:42:0a:3e:00:01", "icmp[icmptype] == icmp-echo",
		"tcp[tcpflags] & (tcp-syn|tcp-ack) != 0", "tcp[32:4] = 0x47455420", "ip[6:2] & 0x1fff != 0", "not arp and greater 100", "ip6 proto 58", "len - 14 > 100", "net 10.0.0.0 mask 255.0.0.0",
	} {
		capture, err := plane.Capture(captureConfig(filter))
		if err != nil {
			t.Error(err)
			continue
		}
		capture.Close()
	}
}

// Whose filter sees headers alone learns nothing of what is behind them.
func TestCaptureOfHeaders(t *testing.T) {
	captured(t)
	config := captureConfig("icmp[0] = 8 and icmp[8:4] != 0x12345678") // the payload's first bytes: true of any other, if it is seen
	config.Headers = true
	plain := config
	plain.Headers = false
	headers := captureConfig("icmp[4:2] != 0xffff")
	headers.Headers = true
	blind, sees, known := capturing(t, config), capturing(t, plain), capturing(t, headers)
	run(t, containerNS, "ping -c 1 -W 5 "+peerIP4)
	waitFor(t, "both that may see it", func() bool {
		return len(at(sees(), datapath.PointSent)) == 1 && len(at(known(), datapath.PointDelivered)) == 1
	})
	if got := blind(); len(got) > 0 {
		t.Errorf("%+v", got)
	}
}

func TestCaptureErrors(t *testing.T) {
	for want, change := range map[string]func(*datapath.CaptureConfig){
		"syntax error":         func(c *datapath.CaptureConfig) { c.Filter = "tcp port port 80" },
		`"web" is neither`:     func(c *datapath.CaptureConfig) { c.Filter = "host web" },
		`"prot" is neither`:    func(c *datapath.CaptureConfig) { c.Filter = "tcp prot 80" },
		`"ssh" is neither`:     func(c *datapath.CaptureConfig) { c.Filter = "port ssh" },
		`"a.example" is`:       func(c *datapath.CaptureConfig) { c.Filter = "udp and (host 10.0.0.1 or host a.example)" },
		"snap length 0":        func(c *datapath.CaptureConfig) { c.Snap = 0 },
		"sample 0":             func(c *datapath.CaptureConfig) { c.Sample = 0 },
		"room for 1000000":     func(c *datapath.CaptureConfig) { c.Room = 1000000 },
		"no point":             func(c *datapath.CaptureConfig) { c.Points = nil },
		`point "here"`:         func(c *datapath.CaptureConfig) { c.Points = []datapath.Point{"here"} },
		"VNI 99999999: want 1": func(c *datapath.CaptureConfig) { c.VNI = 99999999 },
	} {
		config := captureConfig("")
		change(&config)
		if _, err := plane.Capture(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for range 8 {
		capture, err := plane.Capture(captureConfig(""))
		must(t, err)
		defer capture.Close()
	}
	if _, err := plane.Capture(captureConfig("")); err == nil || !strings.Contains(err.Error(), "8 captures are under way") {
		t.Errorf("the ninth: %v", err)
	}
}
