//go:build dptest

package dp

import (
	"net/netip"
	"testing"
)

// However many paths the kernel refuses packets on at a time, all are told of: one that is not is never told of again.
func TestDoubtsOfManyVTEPs(t *testing.T) {
	bench()
	for i := range byte(100) {
		vtep, err := AddVTEP(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 100 + i}), 4789))
		if err != nil {
			t.Fatal(err)
		}
		defer DelVTEP(vtep)
		doubt(vtep)
	}
	if told := len(Doubts()); told != 100 {
		t.Errorf("told of %d VTEPs, want 100", told)
	}
	if told := len(Doubts()); told != 0 {
		t.Errorf("told of %d VTEPs again", told)
	}
}
