//go:build dptest

package dp

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// RFC 4303 section 3.4.3: a number is taken once, if it is no older than the window is long.
func TestWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWindow()
		defer w.free()
		taken, top := map[uint64]bool{}, uint64(0)
		step := rapid.OneOf(rapid.Int64Range(-100, 100), rapid.Int64Range(-2*int64(windowLen), 2*int64(windowLen)), rapid.Int64Range(0, 1<<31))
		number := rapid.SampledFrom([]uint64{1, windowLen, 1<<32 - 50, 1<<33 - 5}).Draw(t, "first")
		for range rapid.IntRange(1, 300).Draw(t, "packets") {
			number = uint64(max(int64(number)+step.Draw(t, "step"), 0))
			want := number > 0 && number+windowLen > top && !taken[number]
			if fresh := w.fresh(number); fresh != want {
				t.Fatalf("%d is fresh: %v, want %v; the highest is %d", number, fresh, want, top)
			}
			if number+windowLen > top && number < top+1<<31 {
				if got := w.extend(uint32(number)); got != number {
					t.Fatalf("%d is taken for %d; the highest is %d", number, got, top)
				}
			}
			if took := w.take(number); took != want {
				t.Fatalf("%d is taken: %v, want %v; the highest is %d", number, took, want, top)
			}
			if want {
				taken[number], top = true, max(top, number)
			}
		}
	})
}

// Workers that share a window take each number once between them, whoever comes first, and none is too late that is within it.
func TestWindowIsShared(t *testing.T) {
	w := newWindow()
	defer w.free()
	const workers, rounds = 4, 100
	length := windowLen / 2 // of which no worker is further behind than the round before
	for round := range uint64(rounds) {
		taken := make([]atomic.Int32, length)
		var running sync.WaitGroup
		for i := range workers {
			running.Go(func() {
				for _, at := range rand.New(rand.NewPCG(uint64(i), round)).Perm(int(length)) {
					if w.take(round*length + uint64(at) + 1) {
						taken[at].Add(1)
					}
				}
			})
		}
		running.Wait()
		for at := range taken {
			if got := taken[at].Load(); got != 1 {
				t.Fatalf("number %d was taken %d times", round*length+uint64(at)+1, got)
			}
		}
	}
}
