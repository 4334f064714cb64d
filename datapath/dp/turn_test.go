//go:build dptest

package dp

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Whatever a container says, each of its turns is as much work for the worker, a packet counted as a thousand bytes.
func TestTurnsAreOfOneSize(t *testing.T) {
	const turns = 500
	b := bench()
	for name, c := range map[string]struct{ payload, size int }{
		"super-frames":                   {60000, 1400},
		"super-frames of small segments": {4096, 64},
		"super-frames of tiny segments":  {60000, 8},
	} {
		frame := make([]byte, vnetLen+42+c.payload)
		frame[1], frame[4], frame[5] = gsoUDP, byte(c.size), byte(c.size>>8)
		frames := 0
		for range turns {
			var err error
			for err == nil { // as many as there is room for
				_, err = unix.Write(b.container, frame)
			}
			frames += turn(b.port, 0)
		}
		if work := frames * (c.payload + c.payload/c.size*1000) / turns; work < 80_000 || work > 180_000 {
			t.Errorf("%s: %d frames in %d turns: work of %d a turn", name, frames, turns, work)
		}
		for turn(b.port, 0) > 0 || pending(t, b.container) {
		}
	}
}

// Beside a port that is sometimes silent, one that never is has an eighth of a turn; beside its like it has a whole one.
func TestFloodingPortsGiveWay(t *testing.T) {
	const turns = 320
	b := bench()
	frame := make([]byte, vnetLen+1400)
	count := func(normal int) (frames int) {
		for range turns {
			for {
				if _, err := unix.Write(b.container, frame); err != nil {
					break
				}
			}
			frames += turn(b.port, normal)
		}
		return frames
	}
	whole := count(0)
	part := count(1)
	if part < whole/10 || part > whole/6 {
		t.Errorf("%d frames in %d turns beside a normal port, %d without one", part, turns, whole)
	}
	drain(t, b)
	if n := count(1); n < part*5/4 { // normal again until it has had something to say for a while
		t.Errorf("%d frames in %d turns, %d of a flooding port", n, turns, part)
	}
	drain(t, b)
}

// drain leaves the container's queue empty, and its port normal.
func drain(t *testing.T, b testBench) {
	t.Helper()
	for empty := 0; empty < 4; empty++ {
		for turn(b.port, 0) > 0 || pending(t, b.container) {
		}
	}
}

// A flooding port pauses fifteen times as long as its turn took, if others have work for the worker: a turn that another process
// interrupted counts for 250 us.
func TestPause(t *testing.T) {
	for _, c := range []struct{ normal, turn, then, want int }{
		{normal: 0, turn: 100, want: 0},
		{normal: 20000 / 40, turn: 100, want: 0},
		{normal: 20000 / 20, turn: 100, want: 1500},
		{normal: 20000 / 20, turn: 100, then: 1499, want: 1},
		{normal: 20000 / 20, turn: 100, then: 1501, want: 0},
		{normal: 20000 / 20, turn: 9000, want: 3750},
	} {
		if got := throttleAfter(c.normal, c.turn, c.then); got != c.want {
			t.Errorf("%d us of a window for others, a turn of %d us, %d us later: a pause of %d us is left, want %d", c.normal, c.turn, c.then, got, c.want)
		}
	}
}

// pairOfPorts adds two ports: the far ends of their queues at the running worker, or at the test's.
func pairOfPorts(t *testing.T, worker int) (ports [2]uint32, far [2]int) {
	t.Helper()
	for i := range ports {
		fds := make([]int, 2)
		for w := range fds {
			queue, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
			check(t, err)
			t.Cleanup(func() { unix.Close(queue[0]); unix.Close(queue[1]) })
			fds[w] = queue[0]
			if w == worker {
				far[i] = queue[1]
			}
		}
		port, err := AddPort(Port{VNI: benchVNI, MAC: [6]byte{2, 0, 0, 0, 1, byte(i)}, FDs: fds})
		check(t, err)
		t.Cleanup(func() { check(t, DelPort(port)) })
		ports[i] = port
	}
	return ports, far
}

// While a container that floods is throttled, others have their turns. What nobody minds is not, nor is a stream that
// waits for answers.
func TestFloodIsThrottled(t *testing.T) {
	const long = 1800e6 // microseconds: times 10^6 its cycles are a signed 64-bit number at 5 GHz
	bench()
	ports, far := pairOfPorts(t, 1)
	udp := make([]byte, vnetLen+1400)
	tcp := append([]byte{1, 0, 0, 0, 0, 0, 0, 0, 16, 0}, udp[vnetLen:]...) // NEEDS_CSUM, and where TCP has it
	const window = 20 * time.Millisecond                                   // in which the worker looks whom a pause would help
	// read is how many frames a turn reads after many, always with more behind them, if others have work for the worker or not. One
	// that another process has interrupted for a window says nothing: it is done again.
	var read func(contended bool, frames ...[]byte) int
	read = func(contended bool, frames ...[]byte) int {
		throttle(false, false, 0)
		for range 80 {
			for i, err := 0, error(nil); err == nil; i++ {
				_, err = unix.Write(far[0], frames[i%len(frames)])
			}
			serve(ports[0])
		}
		begin := time.Now()
		throttle(contended, true, long)
		if n := serve(ports[0], ports[1]); time.Since(begin) < window/2 {
			return n
		}
		return read(contended, frames...)
	}
	if read(false, udp) == 0 {
		t.Error("a flood is throttled that nobody minds")
	}
	_, err := unix.Write(far[1], udp)
	check(t, err)
	if n := read(true, udp); n > 0 {
		t.Errorf("%d frames of a flood that should pause", n)
	}
	if pending(t, far[1]) {
		t.Error("another container's frame waits for the end of the pause")
	}
	if n := read(true, udp, udp, tcp); n > 0 {
		t.Errorf("%d frames of a flood that is a third TCP", n)
	}
	throttle(true, false, long)
	for begin := time.Now(); serve(ports[0]) == 0; {
		if time.Since(begin) > 10*time.Second {
			t.Fatal("a flood is throttled though the others are gone")
		}
	}
	throttle(true, true, 0)
	if serve(ports[0], ports[1]) == 0 {
		t.Error("the pause does not end")
	}
	if read(true, tcp, tcp, udp) == 0 {
		t.Error("a stream that waits for answers is throttled")
	}
	throttle(false, false, 0)
}

// A worker that sleeps while a flood pauses hears of others meanwhile, and goes on with the flood at the end of the pause.
func TestWorkerBesideFlood(t *testing.T) {
	const frames = 20000 // more than there is room for
	bench()
	ports, far := pairOfPorts(t, 0)
	frame := make([]byte, vnetLen+1400)
	deadline := time.Now().Add(30 * time.Second)
	pauses := 0
	for flooded, other := 0, 0; flooded < frames || other < frames/64 || pauses < 100; {
		flood(ports[0])
		for range 64 {
			if _, err := unix.Write(far[0], frame); err == nil {
				flooded++
			}
		}
		if masked(ports[0]) {
			pauses++
		}
		if _, err := unix.Write(far[1], frame); err == nil {
			other++
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d frames of a flood were read, %d of another port; the flood was seen to pause %d times", flooded, other, pauses)
		}
	}
	for pending(t, far[0]) || pending(t, far[1]) {
		if time.Now().After(deadline) {
			t.Fatal("frames are left in a port's queue")
		}
	}
}

// pending says whether the container's end has frames that nobody has read yet.
func pending(t *testing.T, container int) bool {
	t.Helper()
	unread, err := unix.IoctlGetInt(container, unix.TIOCOUTQ)
	if err != nil {
		t.Fatal(err)
	}
	return unread > 0
}
