package discovery

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func someStatic() Static {
	e := testEndpoint(77, 1)
	e.ID = "192.0.2.77"
	return Static{VNI: appNet.VNI, VTEP: netip.MustParseAddrPort("192.0.2.77:4789"), Endpoint: e}
}

func TestStaticEndpointIsAClaimLikeOthers(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		static := someStatic()
		withStatic := func(c *Config) { c.Static = []Static{static} }
		a := startNode(t, l.listen, 1, withStatic)
		b := startNode(t, l.listen, 2, withJoin(a))
		b.subscribe(appNet)
		a.subscribe(appNet)
		a.waitView(5*time.Second, 2, 1, 2)
		if got := a.mac(static.Endpoint); got != "192.0.2.77:4789" {
			t.Errorf("it is behind %s", got)
		}
		if r := a.Records(); len(r) != 1 || r[0].Owner != StaticOwner || r[0].VTEP != static.VTEP || r[0].Network != appNet {
			t.Errorf("records: %+v", r)
		}
		if got := a.read()["overlane_records state=static"]; got != 1 {
			t.Errorf("%v are counted", got)
		}

		moved := static.Endpoint
		moved.Seq = 1
		b.Put(appKey, moved)
		a.wait(time.Second, "a member's higher claim", func() bool { return a.mac(moved) == "192.0.2.2:4789" })
		b.Delete(appKey, moved.MAC)
		a.wait(time.Second, "the static one again", func() bool { return a.mac(moved) == "192.0.2.77:4789" })
		b.waitView(time.Second, 1, 0, 0) // nobody else is told

		a.Unsubscribe(appKey)
		a.waitView(time.Second, 0, 0, 0)
		a.subscribe(Network{Key: "network=other", VNI: 6000})
		a.waitView(time.Second, 0, 0, 0)
	})
}

func TestStaticEndpointsAreChecked(t *testing.T) {
	for want, spoil := range map[string]func(*Static){
		"VNI 0":                   func(s *Static) { s.VNI = 0 },
		"no MAC address":          func(s *Static) { s.Endpoint.MAC[0] = 1 },
		"no address and port":     func(s *Static) { s.VTEP = netip.AddrPort{} },
		"this host's own":         func(s *Static) { s.VTEP = netip.MustParseAddrPort("192.0.2.1:4790") },
		"not [0.0.0.0]":           func(s *Static) { s.Endpoint.Addrs = []netip.Addr{netip.IPv4Unspecified()} },
		"has 10.77.0.1 twice":     func(s *Static) { s.Endpoint.MAC[5]++ },
		"02:00:4d:00:00:01 twice": func(s *Static) { s.Endpoint.Addrs = nil },
	} {
		s := someStatic()
		spoil(&s)
		c, err := Open(Config{
			Dir:    t.TempDir(),
			Bind:   netip.MustParseAddrPort("127.0.0.1:0"),
			VTEP:   netip.MustParseAddrPort("192.0.2.1:4789"),
			Static: []Static{someStatic(), s},

			Insecure: true,
		})
		if err == nil {
			c.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
