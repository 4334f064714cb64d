package overlay

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/overlane/overlane/discovery"
)

// Health says what is not well, and the next step; both are empty where all is.
type Health struct {
	Reason string `json:"reason,omitempty"`
	Advice string `json:"advice,omitempty"`
}

// RecordStatus is an endpoint of any host, this one included, as its host announced it.
type RecordStatus struct {
	RemoteStatus
	Health
}

// Members lists the nodes of the cluster, by host, and after them who wanted to be one.
func (o *Overlay) Members() []MemberStatus {
	return o.memberStatus(o.cluster.Self(), o.cluster.Members())
}

// Records lists the records of the networks in which this host takes part. Hosts that agree list the same of a network.
func (o *Overlay) Records() []RecordStatus {
	members, records := o.cluster.Members(), o.cluster.Records()
	byID := make(map[string]discovery.Member, len(members))
	for _, m := range members {
		byID[m.ID] = m
	}
	claims := map[[2]string][]string{}
	for _, c := range conflicts(records, byID) {
		claims[[2]string{c.Network, c.Address}] = c.Claims
	}
	all := make([]RecordStatus, 0, len(records))
	for _, r := range records {
		owner := byID[r.Owner]
		all = append(all, RecordStatus{remoteRecord(r, owner), recordHealth(r, owner, claims)})
	}
	slices.SortFunc(all, func(a, b RecordStatus) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), slices.CompareFunc(a.Addrs, b.Addrs, netip.Addr.Compare), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// memberHealth says what is not well with a member; here is where this host gossips.
func memberHealth(m discovery.Member, here netip.AddrPort) Health {
	to := fmt.Sprintf("UDP from %s to %s port %d", here.Addr(), m.Addr.Addr(), m.Addr.Port())
	from := fmt.Sprintf("UDP from %s to %s port %d", m.Addr.Addr(), here.Addr(), here.Port())
	switch {
	case m.Deaf && m.Mute:
		return blocked(to + ", and " + from)
	case m.Deaf:
		return blocked(to)
	case m.Mute:
		return blocked(from)
	case m.State == discovery.StateSuspect:
		return Health{"it owes an answer for more than a second; its endpoints stay in use", "if this lasts, look at that host's load and at the network between the hosts"}
	case m.State == discovery.StateDead && m.Frozen:
		return Health{"it went down together with many others: this host seems cut off, and their endpoints stay in use",
			"look at the network between the hosts; if it is those that are down, run `overlane withdraw --down` here"}
	case m.State == discovery.StateDead:
		return Health{fmt.Sprintf("it answers neither UDP nor TCP, and was last seen %s; its endpoints are hidden", m.LastSeen.Local().Format(time.DateTime)), fmt.Sprintf("see by `overlane status` there whether it runs, and start it; if it does, `overlane check` on both says whether UDP and TCP port %d is open between them", m.Addr.Port())}
	case m.State == discovery.StateLeft:
		return Health{"it was shut down, or left for good; its endpoints are withdrawn", "start overlane there, if it is to be back"}
	}
	return Health{}
}

// blocked is of a member that gossip reaches by TCP alone.
func blocked(what string) Health {
	return Health{what + " does not arrive; gossip goes over TCP, and is slower", "let the firewalls between the hosts pass " + what}
}

const conflictAdvice = "remove all of these containers but one"

// recordHealth looks for what keeps an endpoint from being reached; claims has the holders of every address that several claim.
func recordHealth(r discovery.Record, owner discovery.Member, claims map[[2]string][]string) Health {
	if r.Hidden {
		return Health{fmt.Sprintf("host %s is %s", hostOf(owner, r.Owner), owner.State), "see what `overlane status members` says of it"}
	}
	addresses := []string{r.Endpoint.MAC.String()}
	for _, a := range r.Endpoint.Addrs {
		addresses = append(addresses, a.String())
	}
	for _, a := range addresses {
		if holders := claims[[2]string{r.Network.Key, a}]; holders != nil {
			return Health{fmt.Sprintf("%s is claimed by %s", a, strings.Join(holders, " and ")), conflictAdvice}
		}
	}
	return Health{}
}
