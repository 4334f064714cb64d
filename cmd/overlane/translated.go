package main

import (
	"net/netip"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/internal/check"
	"github.com/overlane/overlane/overlay"
)

// translated says of each host that is well otherwise, to which this host's packets leave from an address that is not its VTEP's.
func translated(members []overlay.MemberStatus) []overlay.MemberStatus {
	var own netip.Addr
	var to []netip.AddrPort
	for _, m := range members {
		switch {
		case m.Self:
			own = m.VTEP.Addr()
		case m.VTEP.IsValid(): // that of who is no member is not known
			to = append(to, m.VTEP)
		}
	}
	found, err := check.Translated(own, to)
	if err != nil {
		return members // nothing is tracked, and so nothing translated
	}
	for i, m := range members {
		if as, is := found[m.VTEP]; is && m.State == discovery.StateAlive && !m.Self {
			members[i].Reason, members[i].Advice = check.TranslationText(own, m.VTEP, as)
		}
	}
	return members
}
