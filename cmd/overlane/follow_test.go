package main

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"testing"

	"github.com/vishvananda/netns"

	"github.com/overlane/overlane/internal/hostaddr"
	"github.com/overlane/overlane/internal/testns"
)

// placed is where a host's packets and gossip leave from. Either refuses some addresses.
type placed struct {
	mover
	sync.Mutex
	packetsAt netip.Addr
	refused   map[string]bool // "packets" or "gossip", and the address
}

func (p *placed) take(what string, at *netip.Addr) func(netip.Addr) error {
	return func(to netip.Addr) error {
		p.Lock()
		defer p.Unlock()
		if *at = to; p.refused[what+" "+to.String()] {
			return errors.New("refused")
		}
		return nil
	}
}

// A move that fails leaves packets elsewhere. The address that the host had before comes back: they leave from there again.
func TestAddressIsBackAfterAMoveThatFailed(t *testing.T) {
	for _, refused := range []string{"packets 192.0.2.2", "gossip 192.0.2.2"} {
		t.Run(refused, func(t *testing.T) {
			testns.Enter(t)
			testns.Run(t, "ip link add wire type veth peer name far", "ip link set wire up", "ip link set far up", "ip addr add 192.0.2.1/24 dev wire")
			p := &placed{refused: map[string]bool{refused: true}}
			first := netip.MustParseAddr("192.0.2.1")
			p.at.Store(&first)
			p.packets, p.gossip = p.take("packets", &p.packetsAt), p.take("gossip", new(netip.Addr))
			source, err := hostaddr.ParseSource("wire")
			if err != nil {
				t.Fatal(err)
			}
			follows(t, p, source)
			leaveFrom := func(addr string) func() bool {
				return func() bool {
					p.Lock()
					defer p.Unlock()
					return p.packetsAt == netip.MustParseAddr(addr)
				}
			}
			testns.Run(t, "ip addr del 192.0.2.1/24 dev wire", "ip addr add 192.0.2.2/24 dev wire")
			within(t, "the move is tried", leaveFrom("192.0.2.2"))
			testns.Run(t, "ip addr del 192.0.2.2/24 dev wire", "ip addr add 192.0.2.1/24 dev wire")
			within(t, "packets leave from the address that is back", leaveFrom("192.0.2.1"))
			if at := p.address(); at != first {
				t.Errorf("the host takes itself to be at %s", at)
			}
		})
	}
}

// follows has a host follow its address until the test ends, in the test's network namespace.
func follows(t *testing.T, p *placed, source hostaddr.Source) {
	t.Helper()
	ns, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	t.Cleanup(func() {
		stop()
		<-ended
		ns.Close()
	})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // the thread ends with the goroutine: it is in another network namespace
		if err := netns.Set(ns); err != nil {
			t.Error(err)
			return
		}
		p.follow(ctx, source, quiet())
	}()
}
