package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/overlane/overlane/contrib/bench/testbed"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	floodWord = "flood" // as the first argument it makes this program the sender of a flood
	floodPort = 9
	floodNice = 10
)

// flood is UDP from the second container of the sending host to the second container of the other, as fast as it goes.
type flood struct {
	key, title     string
	size, segments int // of a datagram, and how many of them the sender gives the kernel at once
}

var floods = []flood{
	{"flood64", "64 B", 64, 1},
	{"floodseg", "64 x 64 B super-frames", 64, 64},
	{"floodbig", "40 x 1400 B super-frames", 1400, 40},
}

// besideFloods takes what each flood leaves of a TCP stream, as a part of what the stream has alone just before, and how long requests
// take beside it.
func besideFloods(ctx context.Context, p *pair, window time.Duration, note func(string, float64)) error {
	for _, f := range floods {
		alone, _, err := tcp(ctx, p, onOtherHost, window, 1)
		if err != nil {
			return err
		}
		beside, p50, p99, err := f.beside(ctx, p, window)
		if err != nil {
			return fmt.Errorf("%s: %w", f.key, err)
		}
		note(f.key+"_left", beside/alone)
		note(f.key+"_p50_us", p50)
		note(f.key+"_p99_us", p99)
	}
	return nil
}

// beside is the throughput of a TCP stream, in Gb/s, and then the time of a request one way, in microseconds, while the flood runs.
func (f flood) beside(ctx context.Context, p *pair, window time.Duration) (gbps, p50, p99 float64, err error) {
	sink, err := openSink(p.containers[3])
	if err != nil {
		return 0, 0, 0, err
	}
	defer sink.Close()
	self, err := os.Executable()
	if err != nil {
		return 0, 0, 0, err
	}
	sender := testbed.Command(ctx, p.containers[2], self, floodWord, f.key)
	sender.Stderr = os.Stderr
	if _, err := sender.StdinPipe(); err != nil { // held open: the sender ends with this process, however that ends
		return 0, 0, 0, err
	}
	if err := sender.Start(); err != nil {
		return 0, 0, 0, err
	}
	gbps, p50, p99, err = besideRunning(ctx, p, window, sink)
	end(sender)
	if sender.ProcessState.Exited() {
		err = errors.Join(err, errors.New("the sender ended by itself"))
	}
	return gbps, p50, p99, err
}

// besideRunning begins with the flood's first datagram at the sink; the rest fills the sink's buffer, and is dropped there.
func besideRunning(ctx context.Context, p *pair, window time.Duration, sink net.PacketConn) (gbps, p50, p99 float64, err error) {
	if err := sink.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return 0, 0, 0, err
	}
	if _, _, err := sink.ReadFrom(make([]byte, 1)); err != nil {
		return 0, 0, 0, fmt.Errorf("nothing arrives: %w", err)
	}
	if gbps, _, err = tcp(ctx, p, onOtherHost, window, 1); err != nil {
		return 0, 0, 0, err
	}
	p50, p99, err = latency(ctx, p, onOtherHost, window)
	return gbps, p50, p99, err
}

// openSink opens a socket for the flood in a container.
func openSink(ns string) (sink net.PacketConn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		handle, failed := netns.GetFromName(ns)
		if err = failed; err != nil {
			return
		}
		defer handle.Close()
		if err = netns.Set(handle); err != nil {
			return
		}
		sink, err = net.ListenPacket("udp4", fmt.Sprintf("%s:%d", containerAddr[3], floodPort))
	}()
	<-done
	return sink, err
}

// sendFlood is the sender: it runs until it is killed or its standard input ends.
func sendFlood(key string) error {
	i := slices.IndexFunc(floods, func(f flood) bool { return f.key == key })
	if i < 0 {
		return fmt.Errorf("no flood %q", key)
	}
	go func() {
		os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}()
	// How much CPU time the sending itself gets is the scheduler's matter, which is told here to prefer all others.
	runtime.LockOSThread()
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, floodNice); err != nil {
		return err
	}
	return floods[i].send()
}

func (f flood) send() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	if f.segments > 1 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, f.size); err != nil {
			return err
		}
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: floodPort, Addr: netip.MustParseAddr(containerAddr[3]).As4()}); err != nil {
		return err
	}
	buffer := make([]byte, f.size*f.segments)
	for {
		_, err := unix.Write(fd, buffer)
		switch err {
		case nil, unix.ECONNREFUSED, unix.EAGAIN, unix.ENOBUFS: // full queues, and a sink that has just gone
		default:
			return err
		}
	}
}
