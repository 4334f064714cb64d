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
	"github.com/overlane/overlane/datapath/vhostuser"
)

// vhostPort is a container's port, with the eventfd that the workers ring: nobody listens, for the program polls.
type vhostPort struct {
	id   uint32
	bell int
}

func (p vhostPort) Start(v dp.Vhost, _ int) error {
	v.Bell = p.bell
	return dp.StartVhost(p.id, v)
}

func (p vhostPort) Stop() { dp.StopShared(p.id) }

// addVhost makes a container's port, and speaks with its program from then on.
func addVhost(socket string, m [6]byte, addr netip.Addr) (uint32, error) {
	bell, err := unix.Eventfd(0, unix.EFD_NONBLOCK)
	if err != nil {
		return 0, err
	}
	id, err := dp.AddPort(dp.Port{VNI: vni, MAC: m, Addrs: []netip.Addr{addr}, Rings: dp.VhostRings})
	if err != nil {
		return 0, err
	}
	conn, err := dial(socket)
	if err != nil {
		return 0, err
	}
	go func() {
		if err := vhostuser.Serve(conn, vhostPort{id, bell}); err != nil {
			fmt.Fprintln(os.Stderr, "pipeline:", err)
		}
	}()
	return id, dp.SetMACPort(vni, m, id)
}

// dial waits for the program, for ten seconds at most.
func dial(socket string) (conn *net.UnixConn, err error) {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if conn, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"}); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

func measureVhost(args []string) error {
	measures := map[string]struct {
		open func(args []string, workers int) (packets func() (uint64, error), err error)
		args int
	}{"vhost-encap": {vhostEncap, 1}, "vhost-decap": {vhostDecap, 2}, "vhost-local": {vhostLocal, 2}}
	if len(args) == 0 || measures[args[0]].args != len(args)-1 || measures[args[0]].open == nil {
		return errors.New("want: frames INNER OUTER, encap INNER, decap OUTER, vhost-encap SOCKET, vhost-decap OUTER SOCKET, or vhost-local SOCKET SOCKET")
	}
	workers, err := start()
	if err != nil {
		return err
	}
	packets, err := measures[args[0]].open(args[1:], workers)
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

func vhostEncap(args []string, _ int) (func() (uint64, error), error) {
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
	_, err = addVhost(args[0], localMAC, localAddr)
	return func() (uint64, error) { t, err := dp.ReadDevice(sink); return t.TxPackets, err }, err
}

// The capture brings more than a program takes: what counts is what it has got.
func vhostDecap(args []string, workers int) (func() (uint64, error), error) {
	source, err := openCapture(args[0], workers)
	if err != nil {
		return nil, err
	}
	if _, err := forward(); err != nil {
		return nil, err
	}
	port, err := addVhost(args[1], localMAC, localAddr)
	if err != nil {
		return nil, err
	}
	return taken(port), dp.SetUnderlay(source)
}

// All that the first sends is the second's.
func vhostLocal(args []string, _ int) (func() (uint64, error), error) {
	if err := dp.AddNet(vni); err != nil {
		return nil, err
	}
	if _, err := addVhost(args[0], localMAC, localAddr); err != nil {
		return nil, err
	}
	port, err := addVhost(args[1], remoteMAC(0), remoteAddr(0))
	for n := 1; n < *macs && err == nil; n++ {
		err = dp.SetMACPort(vni, remoteMAC(n), port)
	}
	return taken(port), err
}

// taken are the packets that a container got.
func taken(port uint32) func() (uint64, error) {
	return func() (uint64, error) { t, err := dp.ReadPort(port); return t.TxPackets, err }
}
