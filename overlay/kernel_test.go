package overlay_test

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/overlane/overlane/overlay"
)

func TestDeviceMTU(t *testing.T) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	mtu, err := overlay.DeviceMTU(netip.MustParseAddr("127.0.0.1"))
	if err != nil || mtu != lo.Attrs().MTU {
		t.Errorf("MTU of the loopback is %d (%v), want %d", mtu, err, lo.Attrs().MTU)
	}
	_, err = overlay.DeviceMTU(netip.MustParseAddr("203.0.113.7"))
	wantError(t, err, "203.0.113.7", "no network device")
}
