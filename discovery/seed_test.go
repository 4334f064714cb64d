package discovery

import (
	"net/netip"
	"testing"
	"time"
)

// A node that is told of another's address joins it on its own port: at once, or when the other one starts.
func TestAddedSeedIsJoined(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startNode(t, l.listen, 1)
		port := a.Self().Addr.Port()
		at := func(address string) nodeOption {
			return func(c *Config) { c.Bind = netip.AddrPortFrom(netip.MustParseAddr(address), port) }
		}
		b := startNode(t, l.listen, 2, at("127.0.0.2"))
		b.AddSeed(a.Self().Addr.Addr())
		b.AddSeed(netip.MustParseAddr("127.0.0.3"))
		b.waitState(10*time.Second, a, StateAlive)
		c := startNode(t, l.listen, 3, at("127.0.0.3"))
		c.waitState(10*time.Second, b, StateAlive)
		a.waitState(10*time.Second, c, StateAlive)
	})
}

func TestRemovedSeedIsLeftAlone(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		n := startNode(t, l.listen, 1)
		other := netip.MustParseAddr("127.0.0.2")
		n.AddSeed(other)
		if got, _ := n.joinTargets(nil); len(got) != 1 || got[0] != netip.AddrPortFrom(other, n.Self().Addr.Port()) {
			t.Errorf("to be joined: %v, want %s", got, other)
		}
		n.RemoveSeed(other)
		if got, _ := n.joinTargets(nil); len(got) > 0 {
			t.Errorf("to be joined: %v, want nobody", got)
		}
	})
}

// As with --join gossip is of one family; nor can an address be joined that is no host's.
func TestSeedThatCannotBeJoined(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		n := startNode(t, l.listen, 1)
		for _, addr := range []string{"fd00::1", "fe80::1%lo", "0.0.0.0", "224.0.0.1"} {
			n.AddSeed(netip.MustParseAddr(addr))
		}
		if got, _ := n.joinTargets(nil); len(got) > 0 {
			t.Errorf("to be joined: %v, want nobody", got)
		}
	})
}
