package ipam

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// drawTable is a table of the addresses from 1 to 20, some left out.
func drawTable(t *rapid.T, name string) table {
	var all table
	for at := uint64(1); at <= 20; {
		last := at + uint64(rapid.IntRange(0, 6).Draw(t, name))
		s := span{First: at, Last: min(last, 20), Version: uint64(rapid.IntRange(1, 3).Draw(t, name)), Epoch: uint64(rapid.IntRange(0, 1).Draw(t, name))}
		s.Owner = rapid.SampledFrom([]string{"a.1", "b.1", ownerGateway, ""}).Draw(t, name)
		if s.Owner != "" {
			all = all.add(s)
		}
		at = last + 1
	}
	return all
}

// Of every address the merged table says what the better of the two says, in the fewest spans; the order and repetition
// of news make no difference.
func TestMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawTable(t, "a"), drawTable(t, "b"), drawTable(t, "c")
		ab := merge(a, b)
		if err := ab.check(1, 20); err != nil {
			t.Fatal(err)
		}
		for at := uint64(1); at <= 20; at++ {
			x, inA := a.of(at)
			y, inB := b.of(at)
			want := y
			if inA && (!inB || x.beats(y)) {
				want = x
			}
			got, in := ab.of(at)
			if in != (inA || inB) || got.Owner != want.Owner || got.Epoch != want.Epoch || got.Version != want.Version {
				t.Fatalf("%d of %+v and %+v is %+v, want %+v", at, a, b, got, want)
			}
		}
		for i := range ab[:max(len(ab)-1, 0)] {
			if one := ab[i : i+1 : i+1].add(ab[i+1]); len(one) == 1 {
				t.Fatalf("%+v and %+v say the same", ab[i], ab[i+1])
			}
		}
		if !slices.Equal(ab, merge(b, a)) || !slices.Equal(ab, merge(ab, a)) || !slices.Equal(merge(ab, c), merge(a, merge(b, c))) {
			t.Fatal("the order or repetition of news makes a difference")
		}
	})
}

// What is given has its new owner and counts rather than what was said before; nothing else changes.
func TestGiven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := drawTable(t, "table")
		first := uint64(rapid.IntRange(1, 20).Draw(t, "first"))
		last := uint64(rapid.IntRange(int(first), 20).Draw(t, "last"))
		epoch := uint64(rapid.IntRange(0, 1).Draw(t, "epoch"))
		after := merge(before, before.given(first, last, "z.1", epoch))
		for at := uint64(1); at <= 20; at++ {
			was, known := before.of(at)
			is, still := after.of(at)
			want := was.Owner
			if known && first <= at && at <= last {
				want = "z.1"
			}
			if known != still || is.Owner != want || is.Epoch != was.Epoch && want != "z.1" {
				t.Fatalf("%d to %d of %+v given: %d is %+v", first, last, before, at, is)
			}
		}
	})
}

func TestCovers(t *testing.T) {
	for _, tt := range []struct {
		spans table
		want  bool
	}{
		{table{{First: 1, Last: 4}, {First: 5, Last: 9}}, true},
		{table{{First: 1, Last: 4}, {First: 6, Last: 9}}, false},
		{table{{First: 2, Last: 9}}, false},
		{table{{First: 1, Last: 8}}, false},
		{nil, false},
	} {
		if got := tt.spans.covers(1, 9); got != tt.want {
			t.Errorf("%+v covers 1 to 9: %t, want %t", tt.spans, got, tt.want)
		}
	}
}
