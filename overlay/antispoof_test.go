package overlay_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/overlane/overlane/overlay/overlaytest"
)

// The VTEPs of all hosts of the cluster are protected from containers of this host; where that fails `overlane status` says so.
func TestAntispoof(t *testing.T) {
	h := newHost(t)
	waitUntil(t, "both hosts are protected", func() bool {
		ports := h.own.Antispoofed()
		return slices.Contains(ports, overlaytest.Self.VTEP) && slices.Contains(ports, overlaytest.Peer.VTEP)
	})
	waitUntil(t, "status says that they are", func() bool { return h.Status().Node.Spoofable == "" })
	h.own.Fail("Antispoof", errors.New("no nf_tables"))
	waitUntil(t, "status says why they are not", func() bool { return h.Status().Node.Spoofable == "no nf_tables" })
}
