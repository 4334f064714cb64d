package discovery

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The tests here run nodes on the loopback device, as users do: on the machine's clock and however slow it is.

const patience = time.Minute

// Datagrams and streams, under a key: small changes, a set too big for a datagram, a restart and a leave.
func TestClusterOnSockets(t *testing.T) {
	nodes := startThree(t, listenSockets)
	a, b, c := nodes[0], nodes[1], nodes[2]
	for i := 2; i <= 1000; i++ {
		a.Put(appKey, testEndpoint(1, i))
	}
	c.waitView(patience, 2, 1001, 2002)
	for i := 1; i <= 1000; i++ {
		a.Delete(appKey, testEndpoint(1, i).MAC)
	}
	c.waitView(patience, 2, 1, 2)

	b.restart()
	b.subscribe(appNet)
	b.Put(appKey, testEndpoint(2, 2))
	b.waitView(patience, 2, 1, 2)
	c.wait(patience, "what it says now", func() bool { return c.mac(testEndpoint(2, 2)) != "" && c.mac(testEndpoint(2, 1)) == "" })

	if err := a.Leave(patience); err != nil {
		t.Fatal(err)
	}
	c.waitView(patience, 1, 1, 2)
	c.waitState(patience, a, StateLeft)
}

// Seeds are tried until they are there; every address of a name is, and the
// node's own is not.
func TestSeedsComeLater(t *testing.T) {
	a := startNode(t, listenSockets, 1)
	seed := fmt.Sprint("localhost:", a.Self().Addr.Port())
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	b := startNode(t, listenSockets, 2, func(c *Config) { c.Join = []string{"no.such.host.invalid", seed} })
	b.wait(patience, "a warning", func() bool { return strings.Contains(b.logged.String(), "cannot join 127.0.0.1") })
	a.restart()
	b.waitState(patience, a, StateAlive)
	a.waitState(patience, b, StateAlive)
}

// A host with another key is named by where it knocked from.
func TestStrangerOfAnotherKeyIsNamed(t *testing.T) {
	a := startNode(t, listenSockets, 1, withKey(secret))
	startNode(t, listenSockets, 2, withKey(nextSecret), withJoin(a))
	a.wait(patience, "it says who knocked", func() bool {
		all := a.Strangers()
		return len(all) == 1 && all[0].Key && all[0].Addr.String() == "127.0.0.1:0"
	})
}
