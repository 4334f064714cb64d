package datapath_test

import (
	"fmt"
	"testing"
)

// Who creates one network too many reads which, and how to make room.
func TestNoRoomForNetworks(t *testing.T) {
	const first = 1 << 23
	vni := uint32(first)
	defer func() {
		for added := uint32(first); added < vni; added++ {
			must(t, plane.DelNetwork(added))
		}
	}()
	err := plane.AddNetwork(vni, false)
	for ; err == nil; err = plane.AddNetwork(vni, false) {
		vni++
	}
	if want := fmt.Sprintf("VNI %d: there are 4096 networks, and room for no more: remove one", vni); err.Error() != want {
		t.Errorf("refused with %q, want %q", err, want)
	}
}
