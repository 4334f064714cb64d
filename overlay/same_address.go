package overlay

import (
	"fmt"
	"net/netip"

	"github.com/overlane/overlane/discovery"
)

// sharedAddressHealth says of hosts that do not answer where another one gossips at the same address, by ID: nobody tells the two apart. One
// that was set up anew under its old name is no other one.
func sharedAddressHealth(members []discovery.Member) map[string]Health {
	at := map[netip.AddrPort][]discovery.Member{}
	for _, m := range members {
		if m.State != discovery.StateLeft {
			at[m.Addr] = append(at[m.Addr], m)
		}
	}
	health := map[string]Health{}
	for addr, all := range at {
		for _, m := range all {
			for _, other := range all {
				if m.State == discovery.StateDead && other.Host != m.Host {
					health[m.ID] = Health{fmt.Sprintf("it does not answer; host %s advertises %s too; its endpoints are hidden", other.Host, addr),
						"unless that one took its place, start overlane on both with --advertise and an address that the other hosts reach, each with its own"}
				}
			}
		}
	}
	return health
}
