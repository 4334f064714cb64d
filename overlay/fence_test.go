package overlay_test

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/overlane/overlane/internal/bubble"
)

// An endpoint whose address another host has taken over is withdrawn, with the reason in the status and to Docker; when the address comes
// back it is announced again.
func TestTakenAddressIsFenced(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.network()
		h.run(epID, "10.20.0.9")
		other := strings.Replace(epID, "e", "f", 1)
		h.run(other, "10.20.0.10")
		h.Fence(map[netip.Addr]string{netip.MustParseAddr("10.20.0.9"): "host2"})
		synctest.Wait()
		if own := h.cluster.Own(key); len(own) != 1 || own[0].ID != other {
			t.Errorf("announced: %+v, want the other endpoint alone", own)
		}
		if p := h.Status().Pending; len(p) != 1 || !strings.Contains(p[0].Reason, "[10.20.0.9]: host host2 took one over") {
			t.Errorf("pending: %+v", p)
		}
		_, err := h.Join(netID, epID, sandbox)
		wantError(t, err, "host host2 took one over")

		h.Fence(nil)
		synctest.Wait()
		if own := h.cluster.Own(key); len(own) != 2 {
			t.Errorf("announced: %+v, want both endpoints", own)
		}
		h.wantPending(0)
	})
}
