//go:build dptest

package dp

import (
	"testing"
	"time"
)

const hog, normal = 0x0242, 0x4242

// press has the queue wait until the worker takes notice.
func press(full bool) {
	for start := time.Now(); time.Since(start) < 2*time.Millisecond; {
		settle(true, full)
	}
}

// deliver is so many milliseconds in which the hog gets nine tenths of the time.
func deliver(milliseconds int, full bool) {
	for range milliseconds {
		charge(hog, 900)
		charge(normal, 100)
		settle(true, full)
	}
}

func TestHogsWaitUnderPressure(t *testing.T) {
	bench()
	settle(false, false)
	press(false)
	deliver(5, false)
	if over(hog) || over(normal) {
		t.Errorf("after 5 ms over: the hog %t, the other %t", over(hog), over(normal))
	}
	begin := time.Now()
	deliver(25, false)
	if !over(hog) || over(normal) {
		t.Errorf("after 30 ms over: the hog %t, the other %t", over(hog), over(normal))
	}
	settle(false, false)
	if over(hog) {
		t.Error("the hog is over though nothing waits")
	}
	if press(false); !over(hog) && time.Since(begin) < 50*time.Millisecond { // in a second what it took is forgiven
		t.Error("the hog is not over when the pressure comes back at once")
	}
	for start := time.Now(); over(hog); settle(true, false) { // nothing of it is delivered, and nobody else asks
		if time.Since(start) > 10*time.Second {
			t.Fatal("the hog is over for ever")
		}
	}
	deliver(3, true)
	if !over(hog) || over(normal) {
		t.Errorf("before an overflow over: the hog %t, the other %t", over(hog), over(normal))
	}
	settle(false, false)
}

func TestSharesOfAloneAndEqual(t *testing.T) {
	bench()
	forget()
	press(false)
	for range 100 {
		charge(hog, 1000)
		settle(true, true)
	}
	if over(hog) {
		t.Error("one that is alone is over")
	}
	for range 100 {
		charge(hog, 500)
		charge(normal, 500)
		settle(true, true)
	}
	if over(hog) || over(normal) {
		t.Error("of two that take the same one is over")
	}
	settle(false, false)
}

// Datagrams of who sends many are dropped once the queue has stood for 5 ms, and until it is short; soon after that at once. TCP is not,
// nor is who sends few.
func TestStandingQueue(t *testing.T) {
	bench()
	forget()
	t.Cleanup(forget)
	const (
		ms    = 1000
		full  = 0.5
		short = 1. / 128
	)
	flood := func(fill float64, microseconds int) bool { return standing(fill, microseconds, hog, false, 100000) }
	if flood(full, 0) || flood(full, 4*ms) {
		t.Error("a burst is dropped")
	}
	if flood(short, 0) || flood(full, 4*ms) || flood(full, 4*ms) {
		t.Error("what stands for two times of 4 ms is dropped")
	}
	if !flood(full, 2*ms) {
		t.Error("after 6 ms nothing is dropped")
	}
	if standing(full, 0, hog, true, 100000) {
		t.Error("TCP is dropped")
	}
	if standing(full, 0, normal, false, 1000) {
		t.Error("a few datagrams of another are dropped")
	}
	if !flood(1./32, 0) {
		t.Error("it ends before the queue is short")
	}
	if flood(short, 0) {
		t.Error("datagrams are dropped out of a short queue")
	}
	if flood(full, 10*ms) || !flood(full, ms) {
		t.Error("a queue that comes back at once is not dropped at once")
	}
	flood(short, 0)
	if flood(full, 200*ms) || flood(full, ms) {
		t.Error("a burst is dropped, long after a queue that stood")
	}
	if !flood(full, 10*ms) {
		t.Error("the next one is not dropped")
	}
	for range 8 { // by then the flood has a source's share of what came
		standing(full, 11*ms, normal, true, 10000000)
	}
	if standing(full, 0, hog, false, 1000) {
		t.Error("who has sent few datagrams for long is dropped for what he sent before")
	}
}
