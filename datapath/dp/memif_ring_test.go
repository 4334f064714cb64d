//go:build dptest

package dp

import (
	"encoding/binary"
	"math/rand"
	"testing"
)

// memifDesc is a descriptor: flags, region, length, offset.
type memifDesc struct {
	flags, region  uint16
	length, offset uint32
}

const memifBuffer = 2048

// memifRings are rings after a server has filled slots and read others: its tails, and the first descriptors of the ring that it fills, whose
// offsets are beside the right ones.
func memifRings(filled, read uint16, descs ...memifDesc) []byte {
	rings := make([]byte, memifRingsLen())
	binary.NativeEndian.PutUint16(rings[memifRingAt(true)+64:], filled)
	binary.NativeEndian.PutUint16(rings[memifRingAt(false)+64:], read)
	for i := range memifSlots {
		d := memifDesc{length: 60}
		if i < len(descs) {
			d = descs[i]
		}
		at := rings[memifRingAt(true)+128+16*i:]
		binary.NativeEndian.PutUint16(at, d.flags)
		binary.NativeEndian.PutUint16(at[2:], d.region)
		binary.NativeEndian.PutUint32(at[4:], d.length)
		binary.NativeEndian.PutUint32(at[8:], d.offset+uint32(memifRingsLen()+(memifSlots+i)*(memifBuffer+64)))
	}
	return rings
}

// Frames are taken up to the first word that no server writes, and put while there is room.
func TestMemifRing(t *testing.T) {
	for name, c := range map[string]struct {
		rings      []byte
		size       int
		taken, put int
	}{
		"one":                     {memifRings(1, 0), 60, 1, memifSlots},
		"all":                     {memifRings(memifSlots, 0), 60, memifSlots, memifSlots},
		"none":                    {memifRings(0, 0), 60, 0, memifSlots},
		"full buffers":            {memifRings(2, 0, memifDesc{0, 0, memifBuffer, 0}, memifDesc{0, 0, memifBuffer, 0}), memifBuffer, 2, memifSlots},
		"a buffer and a byte":     {memifRings(2, 0, memifDesc{1, 0, memifBuffer, 0}, memifDesc{0, 0, 1, 0}), memifBuffer + 1, 1, memifSlots / 2},
		"longer than the room":    {memifRings(3, 0, memifDesc{1, 0, memifBuffer, 0}, memifDesc{1, 0, memifBuffer, 0}, memifDesc{0, 0, memifBuffer, 0}), 60, 1, memifSlots},
		"the whole ring":          {memifRings(0, 0), memifSlots * memifBuffer, 0, 1},
		"more than the ring":      {memifRings(0, 0), memifSlots*memifBuffer + 1, 0, 0},
		"tail beyond the head":    {memifRings(memifSlots+1, 0), 60, 0, memifSlots},
		"tail behind":             {memifRings(1<<16-1, 0), 60, 0, memifSlots},
		"another region":          {memifRings(2, 0, memifDesc{0, 0, 60, 0}, memifDesc{0, 1, 60, 0}), 60, 1, memifSlots},
		"another offset":          {memifRings(2, 0, memifDesc{0, 0, 60, 0}, memifDesc{0, 0, 60, 4}), 60, 1, memifSlots},
		"longer than the buffer":  {memifRings(2, 0, memifDesc{0, 0, 60, 0}, memifDesc{0, 0, memifBuffer + 1, 0}), 60, 1, memifSlots},
		"chain without end":       {memifRings(2, 0, memifDesc{0, 0, 60, 0}, memifDesc{1, 0, 60, 0}), 60, 1, memifSlots},
		"read more than was told": {memifRings(0, memifSlots), 60, 0, memifSlots},
		"read what was told":      {memifRings(0, memifSlots-1), 60, 0, 2*memifSlots - 1},
	} {
		t.Run(name, func(t *testing.T) {
			if taken, put := takeAndPutMemif(c.rings, c.size); taken != c.taken || put != c.put {
				t.Errorf("%d taken, %d put; want %d, %d", taken, put, c.taken, c.put)
			}
		})
	}
}

// Whatever is in the rings, nothing outside of the memory is touched: for the sanitizer to see.
func TestMemifRingRandom(t *testing.T) {
	source := rand.New(rand.NewSource(1))
	for range 10_000 {
		descs := make([]memifDesc, memifSlots)
		for i := range descs {
			descs[i] = memifDesc{uint16(source.Intn(2)), uint16(source.Intn(20) / 19), uint32(source.Intn(memifBuffer + 20)), uint32(source.Intn(20) / 19)}
		}
		rings := memifRings(uint16(source.Intn(memifSlots+2)), uint16(source.Intn(memifSlots+2)), descs...)
		for range source.Intn(6) {
			rings[source.Intn(len(rings))] = byte(source.Int())
		}
		takeAndPutMemif(rings, source.Intn(10_000))
	}
}

func FuzzMemifRing(f *testing.F) {
	f.Add(memifRings(8, 8), 60)
	f.Add(memifRings(2, 0, memifDesc{1, 0, memifBuffer, 0}, memifDesc{0, 0, 1, 0}), 3000)
	f.Fuzz(func(t *testing.T, rings []byte, size int) {
		if len(rings) == memifRingsLen() {
			takeAndPutMemif(rings, size&0xffff)
		}
	})
}
