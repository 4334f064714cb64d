package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/overlane/overlane/capture"
	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/overlay"
)

var traceBegin = time.Now().Add(-time.Minute)

// event is one of a packet, so many microseconds after the trace began.
func event(host string, point datapath.Point, at int, identity string) capture.Event {
	e := capture.Event{Host: host, Point: point, Time: traceBegin.Add(time.Duration(at) * time.Microsecond), Identity: identity, Packet: "ICMP " + identity, Network: "app"}
	switch point {
	case datapath.PointRead:
		e.Container = "web"
	case datapath.PointDelivered:
		e.Container = "db"
	case datapath.PointSent:
		e.Peer, e.VTEP = "node2", netip.MustParseAddrPort("192.0.2.2:4789")
	case datapath.PointReceived:
		e.Peer = "node1"
	}
	return e
}

func traceOf(t *testing.T, reports map[string]capture.Report, events ...capture.Event) string {
	t.Helper()
	var out bytes.Buffer
	tr := newTracer(&out, &out, 0, false)
	if err := tr.take(captured{Events: events, Reports: reports}); err != nil {
		t.Fatal(err)
	}
	if err := tr.end(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestTraceText(t *testing.T) {
	both := map[string]capture.Report{"node1": {}, "node2": {}}
	spoofed := event("node1", datapath.PointDropped, 2, "one")
	spoofed.Drop, spoofed.Reason = "spoofed_mac", "source MAC is not the port's"
	forged := event("node2", datapath.PointDropped, 3, "")
	forged.Drop, forged.Reason, forged.Peer = "esp_spi", "encrypted with a key that this host does not have", "node1"
	long := forged
	long.Time = long.Time.Add(time.Minute)
	read, sent := event("node1", datapath.PointRead, 0, "one"), event("node1", datapath.PointSent, 5, "one")
	for name, c := range map[string]struct {
		reports map[string]capture.Report
		events  []capture.Event
		want    string
	}{
		"delivered": {both, []capture.Event{read, sent, event("node2", datapath.PointReceived, 70, "one"), event("node2", datapath.PointDelivered, 80, "one")},
			"ICMP one, on app\n        0 µs  node1  read from web\n        5 µs  node1  sent to node2\n       70 µs  node2  received from node1\n       80 µs  node2  delivered to db\n"},
		"dropped":        {both, []capture.Event{read, spoofed}, "dropped as spoofed_mac: source MAC is not the port's\n1 packets"},
		"black hole":     {both, []capture.Event{read, sent}, "NOT RECEIVED by node2: something between the hosts drops it, such as a firewall (UDP port 4789)"},
		"not decrypted":  {both, []capture.Event{read, sent, forged}, "NOT SEEN on node2: something that came from node1 then was dropped as esp_spi: encrypted with a key"},
		"another's drop": {both, []capture.Event{read, sent, long}, "NOT RECEIVED by node2"},
		"not looked at":  {map[string]capture.Report{"node1": {}}, []capture.Event{read, sent}, "node2 was not looked at"},
		"silent":         {map[string]capture.Report{"node2": {Silent: true}}, []capture.Event{read, sent}, "node2 was not looked at"},
		"too much there": {map[string]capture.Report{"node2": {Lost: 9}}, []capture.Event{read, sent}, "could not show all"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := traceOf(t, c.reports, c.events...); !strings.Contains(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// Segments of a super-frame, and what they are merged into, are the packet that they come from; the flow's other direction is another.
func TestTraceOfSuperFrame(t *testing.T) {
	tcp := func(e capture.Event, flow string, seq uint32, payload int) capture.Event {
		e.Flow, e.Seq, e.Payload = flow, seq, payload
		return e
	}
	const there, back = "10.0.0.1:4000 > 10.0.0.2:80", "10.0.0.2:80 > 10.0.0.1:4000"
	got := traceOf(t, map[string]capture.Report{"node2": {}},
		tcp(event("node1", datapath.PointRead, 0, "a"), there, 4294967000, 3000),
		tcp(event("node1", datapath.PointSent, 1, "a"), there, 4294967000, 3000),
		tcp(event("node2", datapath.PointReceived, 50, "a"), there, 4294967000, 1400),
		tcp(event("node2", datapath.PointReceived, 51, "b"), there, 1104, 1400), // behind the end of the numbers
		tcp(event("node2", datapath.PointDelivered, 60, "a"), there, 4294967000, 3000),
		tcp(event("node2", datapath.PointRead, 70, "c"), back, 1104, 10),
	)
	if strings.Count(got, "ICMP") != 2 || strings.Count(got, "received from node1") != 1 || !strings.HasSuffix(got, "2 packets; none was lost\n") {
		t.Error(got)
	}
}

func TestTraceCount(t *testing.T) {
	var out bytes.Buffer
	tr := newTracer(&out, &out, 1, false)
	err := tr.take(captured{Events: []capture.Event{event("node1", datapath.PointRead, 0, "one"), event("node1", datapath.PointRead, 1, "two")}})
	if !errors.Is(err, errEnough) || strings.Count(out.String(), "read from") != 1 {
		t.Errorf("%v\n%s", err, &out)
	}
	out.Reset()
	tr = newTracer(&out, &out, 1, true)
	err = tr.take(captured{Events: []capture.Event{event("node1", datapath.PointRead, 0, "one"), event("node1", datapath.PointSent, 1, "one"), event("node1", datapath.PointRead, 2, "two")}})
	decoder, points := json.NewDecoder(&out), ""
	for decoder.More() {
		var e capture.Event
		if err := decoder.Decode(&e); err != nil {
			t.Fatal(err)
		}
		points += string(e.Point) + " "
	}
	if !errors.Is(err, errEnough) || points != "read sent " {
		t.Errorf("%v %s", err, points)
	}
}

// simulated is a cluster of three hosts, of which node3 is dead.
func simulated() *overlay.Status {
	const key, other = "network=app", "network=other"
	addr := netip.MustParseAddr
	s := &overlay.Status{Node: overlay.NodeStatus{Host: "node1"}}
	s.Networks = []overlay.NetworkStatus{
		{ID: "aaaa", Name: "app", Key: key, Subnets: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")}},
		{ID: "bbbb", Name: "other", Key: other, Subnets: []netip.Prefix{netip.MustParsePrefix("10.30.0.0/16")}, Encrypted: true},
	}
	local := func(name, network, a string, port bool) overlay.EndpointStatus {
		return overlay.EndpointStatus{Endpoint: overlay.Endpoint{ID: name + "-id", Names: name + " alias", Addrs: []netip.Addr{addr(a)}}, Network: network, HasPort: port}
	}
	s.Endpoints = []overlay.EndpointStatus{local("web", key, "10.20.0.2", true), local("cache", key, "10.20.0.3", true), local("broken", key, "10.20.0.4", false), local("vault", other, "10.30.0.2", true), local("bare", key, "10.20.0.5", true)}
	s.Endpoints[4].InterfaceStatus = overlay.InterfaceStatus{Health: overlay.Health{Reason: "its interface eth0 has lost address 10.20.0.5", Advice: "restart it"}, Lost: addr("10.20.0.5")}
	s.Endpoints[1].InterfaceStatus = overlay.InterfaceStatus{Health: overlay.Health{Reason: "its interface eth0 has lost address fd00::3", Advice: "restart it"}, Lost: addr("fd00::3")}
	s.Remote = []overlay.RemoteStatus{
		{ID: "r1", Network: key, Host: "node2", Names: "db", Addrs: []netip.Addr{addr("10.20.1.2")}},
		{ID: "r2", Network: key, Host: "node3", Names: "gone", Addrs: []netip.Addr{addr("10.20.2.2")}, Hidden: true},
		{ID: "r3", Network: key, Host: "node2", Names: "twice", Addrs: []netip.Addr{addr("10.20.1.9")}},
		{ID: "r4", Network: other, Host: "node2", Names: "safe", Addrs: []netip.Addr{addr("10.30.1.2")}},
	}
	s.Members = []overlay.MemberStatus{{Host: "node1", Self: true}, {Host: "node2"}, {Host: "node3", State: discovery.StateDead, Health: overlay.Health{Reason: "it answers neither UDP nor TCP", Advice: "start overlane there"}}}
	s.Paths = []overlay.PathStatus{{Host: "node2", VTEP: netip.MustParseAddrPort("192.0.2.2:4789"), MTU: 1500}}
	s.Conflicts = []overlay.Conflict{{Network: key, Address: "10.20.1.9", Claims: []string{"twice on node2", "x on node3"}}}
	s.Encryption = []overlay.EncryptionStatus{{Host: "node2", Health: overlay.Health{Reason: "UDP port 7950 does not pass", Advice: "open it"}}}
	return s
}

func TestSimulate(t *testing.T) {
	for name, c := range map[string]struct {
		network, from, to string
		want              string // of the last step, or the reason
		arrives           bool
	}{
		"another host":            {"", "web", "db", "host node2 delivers it to db", true},
		"by address":              {"app", "10.20.0.2", "10.20.1.2", "host node2 delivers it to db", true},
		"the same host":           {"", "web", "cache", "does not leave it", true},
		"from another host":       {"", "db", "web", "host node1 delivers it to web", true},
		"a dead host":             {"", "web", "gone", "host node3: it answers neither UDP nor TCP", false},
		"an address of nobody":    {"", "web", "10.20.7.7", "arp_unknown", false},
		"outside":                 {"", "web", "192.0.2.80", "docker_gwbridge", false},
		"another network":         {"", "web", "safe", "networks are apart", false},
		"claimed twice":           {"", "web", "twice", "is claimed by twice on node2 and x on node3", false},
		"no port":                 {"", "broken", "db", "has no port", false},
		"without its address":     {"", "web", "bare", "bare: its interface eth0 has lost address", false},
		"from there":              {"", "bare", "db", "bare: its interface eth0 has lost address", false},
		"no key":                  {"", "vault", "safe", "UDP port 7950 does not pass", false},
		"no key, named by its ID": {"bbbb", "vault", "safe", "UDP port 7950 does not pass", false},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := simulate(simulated(), c.network, c.from, c.to)
			if err != nil {
				t.Fatal(err)
			}
			got := s.Reason
			if s.Arrives {
				got = s.Steps[len(s.Steps)-1]
			}
			if s.Arrives != c.arrives || !strings.Contains(got, c.want) {
				t.Errorf("%+v, want %q", s, c.want)
			}
		})
	}
	for want, c := range map[string][3]string{
		`network "none"`: {"none", "web", "db"}, `FROM "nobody"`: {"", "nobody", "db"}, `TO "nobody"`: {"", "web", "nobody"},
	} {
		if _, err := simulate(simulated(), c[0], c[1], c[2]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	down := simulated()
	down.Paths[0].MTU = 0
	if s, err := simulate(down, "", "web", "db"); err != nil || !strings.Contains(s.Reason, "underlay_unreachable") {
		t.Errorf("%+v %v", s, err)
	}
}

// What is not as it should be with a host is told anew when it is something else; in the end it is said whose packets are not all there.
func TestTroubleWithAHostIsTold(t *testing.T) {
	var out strings.Builder
	told := map[string]string{}
	for _, r := range []capture.Report{{}, {HeadersOnly: true}, {HeadersOnly: true}, {HeadersOnly: true, Silent: true}, {HeadersOnly: true, Silent: true}, {HeadersOnly: true}} {
		tellReports(&out, map[string]capture.Report{"node2": r}, told, true)
	}
	if got := out.String(); strings.Count(got, "headers alone") != 2 || strings.Count(got, "\n") != 3 {
		t.Errorf("told:\n%s", got)
	}
	if got := lossText(map[string]capture.Report{"node1": {}, "node2": {Silent: true}}); got != "none was lost; not all is there of node2, which did not answer in the end" {
		t.Error(got)
	}
}
