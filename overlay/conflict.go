package overlay

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/discovery"
)

// Conflict is one MAC or address that several live hosts claim in a network.
type Conflict struct {
	Network string   `json:"network"` // key
	Address string   `json:"address"` // MAC or IP
	Claims  []string `json:"claims"`  // HOST/ENDPOINT
}

func conflicts(records []discovery.Record, byID map[string]discovery.Member) []Conflict {
	type claimed struct{ network, address string }
	claims := map[claimed][]string{}
	for _, r := range records {
		if r.Hidden {
			continue
		}
		holder := hostOf(byID[r.Owner], r.Owner) + "/" + short(r.Endpoint.ID)
		mac := claimed{r.Network.Key, r.Endpoint.MAC.String()}
		claims[mac] = append(claims[mac], holder)
		for _, addr := range r.Endpoint.Addrs {
			ip := claimed{r.Network.Key, addr.String()}
			claims[ip] = append(claims[ip], holder)
		}
	}
	all := []Conflict{}
	for what, holders := range claims {
		if len(holders) > 1 {
			all = append(all, Conflict{what.network, what.address, slices.Sorted(slices.Values(holders))})
		}
	}
	slices.SortFunc(all, func(a, b Conflict) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Address, b.Address))
	})
	return all
}

// unreachableOwners asks the hosts that have the endpoint's MAC or one of its addresses whether they are there, and gives those
// that do not answer. Each may take a second, so that no lock is held: what changes meanwhile is found by checkConflicts.
func (o *Overlay) unreachableOwners(ep *Endpoint) map[string]bool {
	o.mu.RLock()
	n := o.networks[ep.NetworkID]
	o.mu.RUnlock()
	if n == nil {
		return nil
	}
	unreachable := map[string]bool{}
	for _, r := range o.claims(n, ep) {
		if _, asked := unreachable[r.Owner]; !asked && !r.Hidden {
			unreachable[r.Owner] = !o.cluster.Answers(r.Owner)
		}
	}
	return unreachable
}

// checkConflicts checks that nobody else has the endpoint's MAC and addresses: Docker can't renumber a running container, so a
// duplicate must be refused at its start. Records of hosts that are dead do not count, nor those of a host that has just
// died, and so was unreachable: what it ran may be started elsewhere at once.
func (o *Overlay) checkConflicts(n *network, ep *Endpoint, unreachable map[string]bool) error {
	for _, other := range n.endpoints {
		if other.MAC == ep.MAC && other.ID != ep.ID {
			return fmt.Errorf("MAC address %s in network %s: endpoint %s on this host has it: give another --mac-address", ep.MAC, n.Key, short(other.ID))
		}
	}
	for _, r := range o.claims(n, ep) {
		if r.Hidden {
			continue
		}
		if unreachable[r.Owner] || o.handedOver(n, ep, r) {
			n.log.WithFields(logrus.Fields{"endpoint": short(ep.ID), "addrs": ep.Addrs, "mac": ep.MAC}).Warnf("endpoint taken over from host %s, which does not answer", o.hostName(r.Owner))
			continue
		}
		for _, addr := range ep.Addrs {
			if slices.Contains(r.Endpoint.Addrs, addr) {
				return fmt.Errorf("address %s in network %s: %s: %s", addr, n.Key, o.claimant(r), o.addressAdvice(n, addr, r.Owner))
			}
		}
		return fmt.Errorf("MAC address %s in network %s: %s: give another --mac-address%s", ep.MAC, n.Key, o.claimant(r), o.orWithdraw(r.Owner))
	}
	return nil
}

// claimant says who has what a container asks for.
func (o *Overlay) claimant(r discovery.Record) string {
	if r.Owner == discovery.StaticOwner {
		return fmt.Sprintf("by the daemon's --static file VTEP %s has it", r.VTEP)
	}
	return fmt.Sprintf("host %s has it on endpoint %s", o.hostName(r.Owner), short(r.Endpoint.ID))
}

// handedOver says whether an address that a host claims which went down with many others is this host's by now: overlane hands out the
// network's addresses, and gives this host none that is not its own.
func (o *Overlay) handedOver(n *network, ep *Endpoint, r discovery.Record) bool {
	return o.member(r.Owner).Frozen && slices.ContainsFunc(r.Endpoint.Addrs, func(addr netip.Addr) bool {
		return slices.Contains(ep.Addrs, addr) && o.handsOut(n, addr)
	})
}

// handsOut says whether overlane, and not Docker, hands out an address of a network.
func (o *Overlay) handsOut(n *network, addr netip.Addr) bool {
	return slices.ContainsFunc(n.Pools, func(pool netip.Prefix) bool { return pool.Contains(addr) && o.isPool(pool) })
}

// addressAdvice is how not to get an address that is somebody else's.
func (o *Overlay) addressAdvice(n *network, addr netip.Addr, owner string) string {
	if owner == discovery.StaticOwner {
		return "choose another with --ip, or create the network with --aux-address, which keeps it from containers"
	}
	if word := o.orWithdraw(owner); word != "" {
		return "choose another with --ip" + word
	}
	if o.handsOut(n, addr) {
		return "choose another with --ip, or let overlane choose one"
	}
	return "create the network with --ipam-driver overlane, or with an --ip-range of its own on each host, or choose the address with --ip"
}

// claims are the records of other hosts with the endpoint's MAC or one of its addresses, hidden ones too.
func (o *Overlay) claims(n *network, ep *Endpoint) []discovery.Record {
	return o.cluster.Claims(n.Key, ep.MAC, ep.Addrs)
}

// nextSeq is the mobility sequence number to announce: above that of every host which had the MAC or an address before
// (RFC 7432 section 15). An endpoint that did not move keeps its own.
func (o *Overlay) nextSeq(n *network, ep *Endpoint) uint32 {
	var others []uint32
	for _, r := range o.claims(n, ep) {
		others = append(others, r.Endpoint.Seq)
	}
	return discovery.NextSeq(ep.Seq, others)
}

// orWithdraw is how to get what is claimed by a host that went down with many others; empty: it did not.
func (o *Overlay) orWithdraw(owner string) string {
	m := o.member(owner)
	if !m.Frozen {
		return ""
	}
	name := hostOf(m, owner)
	return fmt.Sprintf("; or, if host %s is down, and not this one cut off, run `overlane withdraw %s` here and try again", name, name)
}

// member is the node that owns a record; zero: it is none.
func (o *Overlay) member(owner string) discovery.Member {
	for _, m := range o.cluster.Members() {
		if m.ID == owner {
			return m
		}
	}
	return discovery.Member{}
}

// hostName names the owner of a record for people.
func (o *Overlay) hostName(owner string) string { return hostOf(o.member(owner), owner) }
