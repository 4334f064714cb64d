package discovery

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/internal/testns"
)

// Machines of Vagrant's advertise 10.0.2.15 each, and take no connection at the address that --join names.
func TestJoinOfOneThatAdvertisesTheSameAddress(t *testing.T) {
	testns.Enter(t)
	testns.Run(t, "ip link add nat type veth", "ip addr add 10.0.2.15/24 dev nat", "ip link set nat up",
		"ip link add lan type veth", "ip addr add 192.0.2.1/24 dev lan", "ip link set lan up")
	var logged lockedBuffer
	log := logrus.New()
	log.SetOutput(&logged)
	c := &Cluster{log: log, limiter: newLimiter(time.Minute), joining: context.Background(), gossip: &gossip{}}
	at := netip.MustParseAddrPort("10.0.2.15:7950")
	c.gossip.address.Store(&at)
	c.logJoin(netip.MustParseAddrPort("192.0.2.2:7950"), errors.New("connection refused"))
	for _, part := range []string{"cannot join 192.0.2.2:7950", "connection refused", "advertises 10.0.2.15", "--advertise 192.0.2.1"} {
		if !strings.Contains(logged.String(), part) {
			t.Errorf("%q lacks %q", &logged, part)
		}
	}
}

// A third host knows two that advertise one address, and tells each of the other.
func TestMemberAtTheOwnAddress(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startNode(t, l.listen, 1)
		c := startNode(t, l.listen, 3)
		at := a.Self().Addr
		l.set(func() { delete(l.nodes, at.String()) }) // b is where packets to its address lead elsewhere
		b := startNode(t, l.listen, 2, func(cfg *Config) { cfg.Bind = at })
		a.join([]netip.AddrPort{c.Self().Addr})
		b.join([]netip.AddrPort{c.Self().Addr})
		b.wait(time.Minute, "it says so", func() bool {
			return strings.Contains(b.logged.String(), "advertises "+at.String()+", as this one does") && strings.Contains(b.logged.String(), "--advertise of its own")
		})
	})
}
