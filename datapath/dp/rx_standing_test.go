//go:build dptest

package dp

import "testing"

const (
	longQueue  = 0.5
	shortQueue = 1. / 128
)

// stand has a queue be long for so many milliseconds, in which packets come.
func stand(milliseconds int, packets func()) {
	for range 10 * milliseconds {
		standing(longQueue, 100)
		packets()
	}
}

func standingBench(t *testing.T) {
	bench()
	forget()
	t.Cleanup(forget)
}

// UDP of who sends most is dropped once the queue has stood for a tenth of a second, until it is short. Soon after, it is dropped at once.
func TestStandingQueue(t *testing.T) {
	standingBench(t)
	both := func() {
		stands(hog, true, 100000)
		stands(normal, true, 20000)
	}
	expect := func(when string, want bool) {
		t.Helper()
		if got := stands(hog, true, 1000); got != want {
			t.Errorf("%s who sends most is dropped: %v", when, got)
		}
		if stands(normal, true, 1000) || stands(normal, false, 1000) || stands(hog, false, 1000) {
			t.Errorf("%s who sends less, or TCP, is dropped", when)
		}
	}
	stand(90, both)
	expect("after 90 ms", false)
	standing(longQueue, 1000000)
	expect("after another process had the CPU for a second", false)
	stand(20, both)
	expect("after 110 ms", true)
	standing(1./32, 100)
	expect("while the queue is not yet short", true)
	standing(shortQueue, 100)
	expect("with a short queue", false)
	stand(1, both)
	expect("at once when it is long again", true)
	standing(shortQueue, 100)
	standing(shortQueue, 1000000)
	stand(20, both)
	expect("a second later", false)
	for range 100 {
		stand(2, both)
		standing(shortQueue, 100)
		standing(shortQueue, 90000)
	}
	expect("with bursts now and then", false)
}

// Nobody is dropped who is not the reason: not UDP beside TCP that fills the queue, nor for what he sent before.
func TestStandingQueueOfOthers(t *testing.T) {
	standingBench(t)
	stand(200, func() {
		stands(normal, false, 90000)
		stands(hog, true, 50000)
	})
	if stands(hog, true, 1000) {
		t.Error("UDP is dropped beside more TCP")
	}
	forget()
	stand(200, func() { stands(hog, true, 100000) })
	if !stands(hog, true, 1000) {
		t.Error("UDP that is alone is not dropped")
	}
	standing(shortQueue, 100)
	standing(shortQueue, 2000000)
	stand(200, func() {
		stands(normal, true, 100000)
		stands(hog, true, 1000)
	})
	if stands(hog, true, 1000) || !stands(normal, true, 1000) {
		t.Error("another queue holds it against who made the one before")
	}
	forget()
	sources := func() {
		for i := range 50 {
			stands(normal+uint64(i), true, 10000)
		}
	}
	stand(200, sources)
	for i := range 50 {
		if !stands(normal+uint64(i), true, 1000) {
			t.Errorf("of 50 who send the same, one is not dropped: %d", i)
		}
	}
}

// What the worker has read is not delivered then, and counted; TCP of the same source is.
func TestStandingQueueIsDropped(t *testing.T) {
	standingBench(t)
	b := bench()
	udp, tcp := packed(back(flow{udp: true}.frame(t, 1, 1, 16, fill(100)))), packed(back(flow{}.frame(t, 1, 1, 16, fill(100))))
	stand(200, func() {
		decapExact(b.vtep, 0, udp)
		b.units()
	})
	before := harnessDrops()
	decapExact(b.vtep, 0, udp)
	if got := b.units(); len(got) > 0 || harnessDrops() != before+1 {
		t.Errorf("%d units of UDP out of a queue that stands, want one drop", len(got))
	}
	decapExact(b.vtep, 0, tcp)
	if got := b.units(); len(got) != 1 {
		t.Errorf("%d units of TCP, want 1", len(got))
	}
}
