//go:build dptest

package dp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// native turns a sum of the wire's words into one of the machine's: folded sums are only swapped.
func native(sum uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, sum))
}

func TestCsumOfEveryLength(t *testing.T) {
	for n := range 600 {
		data := fill(n)
		if got, want := csumFold(data, 0), native(fold16(sum16(data))); got != want {
			t.Errorf("%d bytes: %#04x, want %#04x", n, got, want)
		}
	}
}

func TestCsumIsTheOnesComplementSum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := bytes.Repeat(rapid.SliceOfN(rapid.Byte(), 1, 400).Draw(t, "data"), rapid.IntRange(1, 160).Draw(t, "times"))
		start := rapid.Uint16().Draw(t, "start")
		want := native(fold16(sum16(data) + uint32(start)))
		if got := csumFold(data, uint64(native(start))); got != want {
			t.Fatalf("%d bytes: %#04x, want %#04x", len(data), got, want)
		}
	})
}

func TestCsumCarriesEndAround(t *testing.T) {
	ones := bytes.Repeat([]byte{0xff}, 65535)
	if got := csumFold(ones, ^uint64(0)); got != native(fold16(sum16(ones))) {
		t.Errorf("all ones: %#04x", got)
	}
}

func TestCsumCompleteMakesTheFrameValid(t *testing.T) {
	for name, f := range kinds {
		for _, size := range []int{1, 2, 63, 1000, 1001} {
			whole := f.frame(t, 1, 2, 16, fill(size))
			partial, vnet := f.super(whole, size)
			got, ok := csumComplete(partial, vnet.CsumStart, vnet.CsumOffset)
			if !ok || !bytes.Equal(got, whole) {
				t.Errorf("%s, %d bytes: ok %v, completed\n%x, want\n%x", name, size, ok, got, whole)
			}
		}
	}
}

// A payload that makes the sum 0xffff has the checksum 0, which UDP takes for "no checksum", and TCP as it is.
func TestCsumCompleteOfZero(t *testing.T) {
	for name, c := range map[string]struct {
		field int
		want  uint16
	}{"UDP4": {40, 0xffff}, "TCP4": {50, 0}} {
		f := kinds[name]
		payload := make([]byte, 2)
		binary.BigEndian.PutUint16(payload, binary.BigEndian.Uint16(f.frame(t, 0, 0, 0, payload)[c.field:]))
		partial, vnet := f.super(f.frame(t, 0, 0, 0, payload), 2)
		got, ok := csumComplete(partial, vnet.CsumStart, vnet.CsumOffset)
		if sum := binary.BigEndian.Uint16(got[c.field:]); !ok || sum != c.want {
			t.Errorf("%s: checksum %x, want %x", name, sum, c.want)
		}
	}
}

func TestCsumCompleteOutsideOfTheFrame(t *testing.T) {
	frame := fill(60)
	for _, c := range []struct {
		start, offset uint16
		ok            bool
	}{
		{34, 24, true}, {34, 25, false}, {58, 0, true}, {59, 0, false}, {60, 0, false}, {65535, 65535, false},
		{65535, 1, false}, {34, 65535, false}, {14, 0, true}, {13, 6, false}, {0, 20, false},
	} {
		got, ok := csumComplete(frame, c.start, c.offset)
		if ok != c.ok {
			t.Errorf("start %d, offset %d of 60 bytes: %v, want %v", c.start, c.offset, ok, c.ok)
		}
		if !ok && !bytes.Equal(got, frame) {
			t.Errorf("start %d, offset %d: refused, yet the frame was changed", c.start, c.offset)
		}
	}
}

func BenchmarkCsum(b *testing.B) {
	for _, size := range []int{20, 64, 1448, 65536} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.SetBytes(int64(size))
			csumRounds(fill(size), b.N)
		})
	}
}
