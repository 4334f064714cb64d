//go:build dptest

package dp

import (
	"encoding/binary"
	"math/rand"
	"testing"
)

// vringDesc is a descriptor: linux/virtio_ring.h.
type vringDesc struct {
	addr        uint64
	len         uint32
	flags, next uint16
}

// vringMemory is a ring whose heads are the first descriptors, as many as are available, with some memory behind it.
func vringMemory(available uint16, descs ...vringDesc) []byte {
	memory := make([]byte, vringLen+512)
	for i, d := range descs {
		at := memory[16*i:]
		binary.NativeEndian.PutUint64(at, d.addr)
		binary.NativeEndian.PutUint32(at[8:], d.len)
		binary.NativeEndian.PutUint16(at[12:], d.flags)
		binary.NativeEndian.PutUint16(at[14:], d.next)
	}
	binary.NativeEndian.PutUint16(memory[vringAvail+2:], available)
	for i := range uint16(vringSize) {
		binary.NativeEndian.PutUint16(memory[vringAvail+4+2*i:], i)
	}
	return memory
}

const vringBuffer = vringGuest + vringLen

// Chains of each kind are taken and filled.
func TestVring(t *testing.T) {
	for name, c := range map[string]struct {
		memory     []byte
		merge      bool
		taken, put int
	}{
		"one":                     {vringMemory(2, vringDesc{vringBuffer, 50, 0, 0}, vringDesc{vringBuffer, 60, 0, 0}), false, 2, 0},
		"chain":                   {vringMemory(1, vringDesc{vringBuffer, 12, 1, 4}, vringDesc{}, vringDesc{}, vringDesc{}, vringDesc{vringBuffer + 100, 60, 0, 0}), false, 1, 0},
		"longer than the room":    {vringMemory(1, vringDesc{vringBuffer, 101, 0, 0}), false, 1, 0},
		"to write":                {vringMemory(1, vringDesc{vringBuffer, 100, 2, 0}), false, 0, 1},
		"shorter than the frame":  {vringMemory(2, vringDesc{vringBuffer, 99, 2, 0}, vringDesc{vringBuffer, 99, 2, 0}), false, 0, 0},
		"merged":                  {vringMemory(4, vringDesc{vringBuffer, 64, 2, 0}, vringDesc{vringBuffer, 64, 2, 0}, vringDesc{vringBuffer, 64, 2, 0}, vringDesc{vringBuffer, 64, 2, 0}), true, 0, 2},
		"too few to merge":        {vringMemory(1, vringDesc{vringBuffer, 64, 2, 0}), true, 0, 0},
		"more than the ring":      {vringMemory(9, vringDesc{vringBuffer, 50, 0, 0}), false, 0, 0},
		"end of what is shared":   {vringMemory(1, vringDesc{vringBuffer + 500, 13, 0, 0}), false, 0, 0},
		"up to the end":           {vringMemory(1, vringDesc{vringBuffer + 500, 12, 0, 0}), false, 1, 0},
		"next outside":            {vringMemory(1, vringDesc{vringBuffer, 10, 1, 8}), false, 0, 0},
		"round and round":         {vringMemory(1, vringDesc{vringBuffer, 0, 1, 0}), false, 0, 0},
		"written round and round": {vringMemory(1, vringDesc{vringBuffer, 0, 3, 0}), false, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if taken, put := takeAndPut(c.memory, c.merge); taken != c.taken || put != c.put {
				t.Errorf("%d taken, %d put; want %d, %d", taken, put, c.taken, c.put)
			}
		})
	}
}

// A table in the place of descriptors.
func TestVringIndirect(t *testing.T) {
	memory := vringMemory(1, vringDesc{vringBuffer, 32, 4, 0})
	copy(memory[vringLen:], vringMemory(0, vringDesc{vringBuffer + 64, 12, 1, 1}, vringDesc{vringBuffer + 128, 60, 0, 0})[:32])
	if taken, _ := takeAndPut(memory, false); taken != 1 {
		t.Error("it was not taken")
	}
	for _, wrong := range []vringDesc{{vringBuffer, 31, 4, 0}, {vringBuffer, 0, 4, 0}, {vringBuffer + 496, 32, 4, 0}, {vringBuffer, 32, 5, 0}, {vringBuffer + 4, 32, 4, 0}, {vringBuffer, 16 * (vringSize + 1), 4, 0}} {
		copy(memory, vringMemory(1, wrong)[:16])
		if taken, _ := takeAndPut(memory, false); taken != 0 {
			t.Errorf("%+v was taken", wrong)
		}
	}
}

// Whatever is in the memory, nothing outside of it is touched: for the sanitizer to see.
func TestVringRandom(t *testing.T) {
	source := rand.New(rand.NewSource(1))
	for range 10_000 {
		descs := make([]vringDesc, vringSize)
		for i := range descs {
			descs[i] = vringDesc{vringGuest + uint64(source.Intn(vringLen+600)) - 40, uint32(source.Intn(300)), uint16(source.Intn(8)), uint16(source.Intn(vringSize + 2))}
		}
		memory := vringMemory(uint16(source.Intn(vringSize+2)), descs...)
		for range source.Intn(6) {
			memory[source.Intn(len(memory))] = byte(source.Int())
		}
		takeAndPut(memory, source.Intn(2) == 0)
	}
}

func FuzzVring(f *testing.F) {
	f.Add(vringMemory(8, vringDesc{vringBuffer, 50, 0, 0}), true)
	f.Add(vringMemory(8, vringDesc{vringBuffer, 64, 2, 0}), false)
	f.Fuzz(func(t *testing.T, memory []byte, merge bool) {
		if len(memory) >= vringLen {
			takeAndPut(memory, merge)
		}
	})
}
