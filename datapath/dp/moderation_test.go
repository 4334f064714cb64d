//go:build dptest

package dp

import (
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// withoutDevices has no device be open for the test, whatever others have left.
func withoutDevices(t *testing.T) {
	before := openDevices(0)
	t.Cleanup(func() { openDevices(before) })
}

// rests is whether the worker rests now; the rest is over then.
func rests() bool {
	rests := moderate()
	for resting() {
	}
	return rests
}

// A worker rests after sixteen datagrams, whichever way they went and however many the kernel gave at once; once, and not for TCP.
func TestModeration(t *testing.T) {
	b := bench()
	withoutDevices(t)
	sent := func(vnet vnetHdr, n, payload int, proto byte) func() {
		frame := make([]byte, vnetLen+42+payload)
		_, err := binary.Encode(frame, binary.LittleEndian, vnet)
		check(t, err)
		copy(frame[vnetLen:], flow{udp: proto == unix.IPPROTO_UDP}.frame(t, 1, 1, 16, fill(payload)))
		return func() {
			for range n {
				encapExact(b.port, frame)
			}
		}
	}
	received := func(f flow, n int) func() {
		packet := packed(back(f.frame(t, 1, 1, 16, fill(100))))
		return func() {
			for range n {
				decapExact(b.vtep, 0, packet)
			}
			b.units()
		}
	}
	superFrame, _ := flow{udp: true}.super(back(flow{udp: true}.frame(t, 1, 0, 0, fill(3000))), 100)
	uso(true)
	t.Cleanup(func() { uso(false) })
	const udp, tcp = unix.IPPROTO_UDP, unix.IPPROTO_TCP
	for name, c := range map[string]struct {
		moves func()
		want  bool
	}{
		"nothing":                 {func() {}, false},
		"a request":               {sent(vnetHdr{}, 1, 100, udp), false},
		"datagrams sent":          {sent(vnetHdr{}, 16, 100, udp), true},
		"fewer":                   {sent(vnetHdr{}, 15, 100, udp), false},
		"a super-frame of them":   {sent(vnetHdr{Type: gsoUDP, GSOSize: 100}, 1, 1600, udp), true},
		"TCP sent":                {sent(vnetHdr{Flags: vnetNeedsCsum, CsumStart: 34, CsumOffset: 16}, 100, 100, tcp), false},
		"TCP with its checksum":   {sent(vnetHdr{}, 100, 100, tcp), false},
		"datagrams received":      {received(flow{udp: true}, 16), true},
		"IPv6 datagrams received": {received(flow{udp: true, v6: true}, 16), true},
		"fewer received":          {received(flow{udp: true}, 15), false},
		"a super-frame received":  {func() { decapDatagram(b.vtep, 0, 100, packed(superFrame)); b.units() }, true},
		"TCP received":            {received(flow{}, 100), false},
		"TCP and a few datagrams": {func() { received(flow{}, 100)(); received(flow{udp: true}, 15)() }, false},
		"as many both ways":       {func() { sent(vnetHdr{}, 8, 100, udp)(); received(flow{udp: true}, 8)() }, true},
	} {
		rests()
		c.moves()
		if got := rests(); got != c.want {
			t.Errorf("%s: the worker rests: %v, want %v", name, got, c.want)
		}
		if rests() {
			t.Errorf("%s: the worker rests twice", name)
		}
	}
	sent(vnetHdr{}, 16, 100, udp)()
	openDevices(1)
	if rests() {
		t.Error("a worker rests that has devices to poll")
	}
}

// While a worker rests, who sent many datagrams is not heard, and everybody else is. At the end all are.
func TestModerationHearsOthers(t *testing.T) {
	b := bench()
	withoutDevices(t)
	ports, far := pairOfPorts(t, 1)
	for _, port := range ports {
		listen(port)
	}
	datagram := append(make([]byte, vnetLen), flow{udp: true}.frame(t, 1, 1, 16, fill(100))...)
	write := func(i int) {
		t.Helper()
		_, err := unix.Write(far[i], datagram)
		check(t, err)
	}
	for range 16 {
		write(0)
		serve(ports[0])
	}
	begin := time.Now()
	if !moderate() {
		t.Fatal("the worker does not rest")
	}
	if slept := time.Since(begin); slept < 50*time.Microsecond {
		t.Errorf("a rest of %s", slept)
	}
	write(0)
	if !deaf(ports[0]) || hears() {
		t.Error("during the rest the worker hears who sent many datagrams")
	}
	if deaf(ports[1]) || deafUnderlay() {
		t.Error("during the rest the worker does not hear others")
	}
	write(1)
	if !hears() {
		t.Error("during the rest the worker does not hear another port")
	}
	serve(ports[1])
	for resting() {
	}
	if deaf(ports[0]) || !hears() {
		t.Error("after the rest the worker does not hear who sent many datagrams")
	}
	serve(ports[0])
	rests()
	packet := packed(back(flow{udp: true}.frame(t, 1, 1, 16, fill(100))))
	for range 16 {
		decapExact(b.vtep, 0, packet)
	}
	b.units()
	if !moderate() || !deafUnderlay() || deaf(ports[0]) {
		t.Error("after many datagrams from the underlay the worker does not rest from it, or not from it alone")
	}
	for resting() {
	}
	if deafUnderlay() {
		t.Error("after the rest the worker does not hear the underlay")
	}
}

// A running worker rests beside datagrams, and reads all of them, and another container's frames.
func TestWorkerRests(t *testing.T) {
	bench()
	withoutDevices(t)
	ports, far := pairOfPorts(t, 0)
	datagram := append(make([]byte, vnetLen), flow{udp: true}.frame(t, 1, 1, 16, fill(100))...)
	before, deadline := runningRests(), time.Now().Add(30*time.Second)
	for runningRests() < before+100 {
		for range 64 {
			unix.Write(far[0], datagram) // its queue may be full
		}
		_, err := unix.Write(far[1], datagram)
		check(t, err)
		for pending(t, far[1]) {
			if time.Now().After(deadline) {
				t.Fatalf("after %d rests a frame waits for ever", runningRests()-before)
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d rests", runningRests()-before)
		}
	}
	for pending(t, far[0]) || pending(t, far[1]) {
		if time.Now().After(deadline) {
			t.Fatalf("frames are left in the queue of %v", ports)
		}
	}
}
