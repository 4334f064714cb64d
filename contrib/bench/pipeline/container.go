package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/datapath/dp"
	"github.com/overlane/overlane/datapath/memif"
	"github.com/overlane/overlane/datapath/vhostuser"
)

// containerPort is a container's port, with the eventfd that the workers ring: nobody listens, for the program polls.
type containerPort struct {
	id   uint32
	bell int
}

func (p containerPort) Stop() { dp.StopShared(p.id) }

type vhostPort struct{ containerPort }

func (p vhostPort) Start(v dp.Vhost, _ int) error {
	v.Bell = p.bell
	return dp.StartVhost(p.id, v)
}

type memifPort struct{ containerPort }

func (p memifPort) Start(m dp.Memif, _ int) error {
	m.Bell = p.bell
	return dp.StartMemif(p.id, m)
}

// protocol is what a container's program speaks.
type protocol struct {
	rings   dp.Rings
	network string // of its socket
	serve   func(conn *net.UnixConn, p containerPort) error
}

var protocols = map[string]protocol{
	"vhost": {dp.VhostRings, "unix", func(conn *net.UnixConn, p containerPort) error { return vhostuser.Serve(conn, vhostPort{p}) }},
	"memif": {dp.MemifRings, "unixpacket", func(conn *net.UnixConn, p containerPort) error { return memif.Serve(conn, memifPort{p}) }},
}

// add makes a container's port, and speaks with its program from then on.
func (p protocol) add(socket string, m [6]byte, addr netip.Addr) (uint32, error) {
	bell, err := unix.Eventfd(0, unix.EFD_NONBLOCK)
	if err != nil {
		return 0, err
	}
	id, err := dp.AddPort(dp.Port{VNI: vni, MAC: m, Addrs: []netip.Addr{addr}, Rings: p.rings})
	if err != nil {
		return 0, err
	}
	conn, err := p.dial(socket)
	if err != nil {
		return 0, err
	}
	go func() {
		for err == nil {
			if failed := p.serve(conn, containerPort{id, bell}); failed != nil && !errors.Is(failed, memif.ErrRefused) {
				fmt.Fprintln(os.Stderr, "pipeline:", failed)
			}
			conn.Close()
			conn, err = p.dial(socket)
		}
	}()
	return id, dp.SetMACPort(vni, m, id)
}

// dial waits for the program, for ten seconds at most.
func (p protocol) dial(socket string) (conn *net.UnixConn, err error) {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
		if conn, err = net.DialUnix(p.network, nil, &net.UnixAddr{Name: socket, Net: p.network}); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// ways are the measurements with a container's program; open says how to count the packets.
var ways = map[string]struct {
	args int
	open func(p protocol, args []string, workers int) (packets func() (uint64, error), err error)
}{
	"encap": {1, protocol.encap},
	"decap": {2, protocol.decap},
	"local": {2, protocol.local},
}

func (p protocol) measure(way string, args []string) error {
	workers, err := start()
	if err != nil {
		return err
	}
	packets, err := ways[way].open(p, args, workers)
	if err != nil {
		return err
	}
	time.Sleep(2 * time.Second)
	begin := time.Now()
	before, err := packets()
	if err != nil {
		return err
	}
	time.Sleep(time.Duration(*seconds) * time.Second)
	after, err := packets()
	if err != nil {
		return err
	}
	fmt.Printf("%.2f\n", float64(after-before)/time.Since(begin).Seconds()/1e6)
	return nil
}

func (p protocol) encap(args []string, _ int) (func() (uint64, error), error) {
	sink, err := openNull()
	if err != nil {
		return nil, err
	}
	vtep, err := forward()
	if err != nil {
		return nil, err
	}
	if err := dp.SetNextHop(vtep, sink, peerMAC); err != nil {
		return nil, err
	}
	_, err = p.add(args[0], localMAC, localAddr)
	return func() (uint64, error) { t, err := dp.ReadDevice(sink); return t.TxPackets, err }, err
}

// The capture brings more than a program takes: what counts is what it has got.
func (p protocol) decap(args []string, workers int) (func() (uint64, error), error) {
	source, err := openCapture(args[0], workers)
	if err != nil {
		return nil, err
	}
	if _, err := forward(); err != nil {
		return nil, err
	}
	port, err := p.add(args[1], localMAC, localAddr)
	if err != nil {
		return nil, err
	}
	return taken(port), dp.SetUnderlay(source)
}

// All that the first sends is the second's.
func (p protocol) local(args []string, _ int) (func() (uint64, error), error) {
	if err := dp.AddNet(vni, false); err != nil {
		return nil, err
	}
	if _, err := p.add(args[0], localMAC, localAddr); err != nil {
		return nil, err
	}
	port, err := p.add(args[1], remoteMAC(0), remoteAddr(0))
	for n := 1; n < *macs && err == nil; n++ {
		err = dp.SetMACPort(vni, remoteMAC(n), port)
	}
	return taken(port), err
}

// taken are the packets that a container got.
func taken(port uint32) func() (uint64, error) {
	return func() (uint64, error) { t, _, err := dp.ReadPort(port); return t.TxPackets, err }
}

var errUsage = errors.New("want: frames INNER OUTER, encap INNER, decap OUTER, and with a protocol, vhost or memif, before it: encap SOCKET, decap OUTER SOCKET, or local SOCKET SOCKET")
