//go:build dptest

package dp

import (
	"encoding/binary"
	"fmt"
	"os"
	"regexp"
	"strconv"
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
		frame, err := binary.Append(nil, binary.LittleEndian, vnet)
		check(t, err)
		frame = append(frame, flow{udp: proto == unix.IPPROTO_UDP}.frame(t, 1, 1, 16, fill(payload))...)
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
	tagged := func() {
		frame := make([]byte, vnetLen+100)
		copy(frame[vnetLen+12:], []byte{0x81, 0})
		for range 16 {
			encapExact(b.port, frame)
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
		"a few both ways":         {func() { sent(vnetHdr{}, 15, 100, udp)(); received(flow{udp: true}, 15)() }, false},
		"malformed ones":          {tagged, true},
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

// hears says whether what is there to read by the descriptor wakes the worker (proc(5), fdinfo of epoll).
func hears(t *testing.T, fd int) bool {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprint("/proc/self/fdinfo/", epollFD()))
	check(t, err)
	found := regexp.MustCompile(fmt.Sprintf(`tfd:\s+%d events:\s+([0-9a-f]+) `, fd)).FindSubmatch(text)
	if found == nil {
		t.Fatalf("the worker does not know of %d: %s", fd, text)
	}
	events, err := strconv.ParseUint(string(found[1]), 16, 32)
	check(t, err)
	return events&unix.EPOLLIN != 0
}

// While a worker rests, who sent many datagrams is not heard, and everybody else is. At the end all are.
func TestModerationHearsOthers(t *testing.T) {
	b := bench()
	withoutDevices(t)
	ports, far := pairOfPorts(t, 1)
	for _, port := range ports {
		listen(port)
	}
	rests()
	expect := func(when string, many, other, underlay bool) {
		t.Helper()
		if got := [3]bool{hears(t, portFD(ports[0])), hears(t, portFD(ports[1])), hears(t, underlayFD())}; got != [3]bool{many, other, underlay} {
			t.Errorf("%s: who sent many datagrams, another port and the underlay are heard: %v", when, got)
		}
	}
	datagram := append(make([]byte, vnetLen), flow{udp: true}.frame(t, 1, 1, 16, fill(100))...)
	send := func(i, n int) {
		t.Helper()
		for range n {
			_, err := unix.Write(far[i], datagram)
			check(t, err)
			serve(ports[i])
		}
	}
	packet := packed(back(flow{udp: true}.frame(t, 1, 1, 16, fill(100))))
	receive := func(n int) {
		for range n {
			decapExact(b.vtep, 0, packet)
		}
		b.units()
	}
	send(0, 16)
	send(1, 1)
	receive(1)
	if !moderate() {
		t.Fatal("the worker does not rest")
	}
	expect("during the rest", false, true, true)
	for resting() {
	}
	expect("after the rest", true, true, true)
	send(1, 15)
	receive(15)
	if rests() {
		t.Error("what was sent before a rest counts behind it")
	}
	send(0, 16)
	receive(16)
	begin := time.Now()
	if !moderate() {
		t.Fatal("the worker does not rest again")
	}
	if slept := time.Since(begin); slept < 50*time.Microsecond {
		t.Errorf("a rest of %s in which nobody was to be heard", slept)
	}
	expect("during another rest", false, true, false)
	for resting() {
	}
	expect("after that", true, true, true)
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
