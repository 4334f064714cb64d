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
