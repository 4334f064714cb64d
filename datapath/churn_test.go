package datapath_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// flow is a stream of numbered datagrams from one namespace to another, slow enough that nothing but a fault loses any.
type flow struct {
	from, to net.Conn
	sent     uint32
	got      []uint32
	arrived  atomic.Uint32 // length of got
}

const (
	flowTick = 2 * time.Millisecond
	perTick  = 4
)

func newFlow(t *testing.T, from, to, addr, port string) *flow {
	t.Helper()
	f := &flow{}
	at := net.JoinHostPort(addr, port)
	inNamespace(t, to, func() error {
		conn, err := net.ListenPacket("udp", at)
		if err != nil {
			return err
		}
		f.to = conn.(*net.UDPConn)
		return nil
	})
	t.Cleanup(func() { f.to.Close() })
	// What a busy machine keeps the reader from waits in the socket.
	raw, err := f.to.(*net.UDPConn).SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20) }))
	must(t, err)
	inNamespace(t, from, func() (err error) {
		f.from, err = net.Dial("udp", at)
		return err
	})
	t.Cleanup(func() { f.from.Close() })
	return f
}

// next sends a datagram.
func (f *flow) next() {
	if _, err := f.from.Write(binary.BigEndian.AppendUint32(nil, f.sent)); err == nil {
		f.sent++
	}
}

// send goes on until it is told to end.
func (f *flow) send(end <-chan struct{}) {
	for tick := time.Tick(flowTick); ; {
		select {
		case <-end:
			return
		case <-tick:
		}
		for range perTick {
			f.next()
		}
	}
}

// receive notes numbers until the socket is closed.
func (f *flow) receive() {
	for number := make([]byte, 4); ; {
		if _, err := f.to.Read(number); err != nil {
			return
		}
		f.got = append(f.got, binary.BigEndian.Uint32(number))
		f.arrived.Add(1)
	}
}

// Ports come and go, and no packet of the others is lost or overtaken: on the host, to another host and from there.
func TestPortsComeAndGoBesideTraffic(t *testing.T) {
	second := secondContainer(t)
	kernelPeer(t, peerWire)
	container(t, containerNS, "ovtest0", hostMAC, innerMTU, vni, hostIP4+"/24", hostIP6+"/64")
	container(t, second, "ovtest1", secondMAC, innerMTU, vni, secondIP4+"/24", secondIP6+"/64")
	flows := map[string]*flow{
		"on the host":       newFlow(t, containerNS, second, secondIP4, "7003"),
		"to another host":   newFlow(t, containerNS, peerNS, peerIP6, "7004"),
		"from another host": newFlow(t, peerNS, containerNS, hostIP4, "7005"),
	}
	var senders, receivers sync.WaitGroup
	end := make(chan struct{})
	for name, f := range flows {
		receivers.Go(f.receive)
		// What the kernel holds back until a neighbour has answered may be overtaken by what is sent meanwhile: net/core/neighbour.c.
		f.next()
		waitFor(t, "the first datagram "+name, func() bool { return f.arrived.Load() > 0 })
		senders.Go(func() { f.send(end) })
	}
	comers := newIdlePorts(t)
	for range churnRounds {
		comers.addUpTo(t, 5)
		for _, id := range comers.ports {
			must(t, plane.DelPort(id))
		}
		comers.ports = nil
	}
	close(end)
	senders.Wait()
	for name, f := range flows {
		waitFor(t, fmt.Sprintf("all of %d datagrams %s", f.sent, name), func() bool { return f.arrived.Load() >= f.sent })
		f.to.Close()
	}
	receivers.Wait()
	for name, f := range flows {
		if f.sent == 0 || len(f.got) != int(f.sent) || !slices.IsSorted(f.got) {
			t.Errorf("%s: %d datagrams arrived of %d, in order: %v", name, len(f.got), f.sent, slices.IsSorted(f.got))
		}
	}
}
