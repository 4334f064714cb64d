//go:build dptest

package dp

import (
	"testing"

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
func TestGreedyPortsGiveWay(t *testing.T) {
	const turns = 320
	b := bench()
	frame := make([]byte, vnetLen+1400)
	count := func(modest int) (frames int) {
		for range turns {
			for {
				if _, err := unix.Write(b.container, frame); err != nil {
					break
				}
			}
			frames += turn(b.port, modest)
		}
		return frames
	}
	whole := count(0)
	if part := count(1); part < whole/10 || part > whole/6 {
		t.Errorf("%d frames in %d turns beside a modest port, %d without one", part, turns, whole)
	}
	for turn(b.port, 0) > 0 || pending(t, b.container) {
	}
	if n := count(1); n < whole/10 { // modest again until it has had something to say for a while
		t.Errorf("%d frames in %d turns", n, turns)
	}
	for turn(b.port, 0) > 0 || pending(t, b.container) {
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
