package overlay_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

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

func TestHasTap(t *testing.T) {
	path := newNamespace(t, "overlane:here")
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		path, alias string
		want        bool
	}{
		"there":                {path, "overlane:here", true},
		"another alias":        {path, "overlane:other", false},
		"namespace is gone":    {plain + "x", "overlane:here", false},
		"namespace is unbound": {plain, "overlane:here", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := overlay.HasTap(tc.path, tc.alias)
			if err != nil || got != tc.want {
				t.Errorf("got %v (%v), want %v", got, err, tc.want)
			}
		})
	}
}

// newNamespace makes a network namespace whose loopback has an alias. It lasts until the end of the test.
func newNamespace(t *testing.T, alias string) string {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetAlias(lo, alias)
	}
	if back := netns.Set(own); back != nil {
		t.Fatal(back)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", int(ns))
}
