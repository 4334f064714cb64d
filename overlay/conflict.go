package overlay

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/discovery"
)

// evict removes the endpoints of this host that hold one of the addresses but are in no container. Docker's address
// management gives no address away twice on one host, so their removal did not get here.
func (o *Overlay) evict(n *network, addrs []netip.Addr) error {
	for _, ep := range n.endpoints {
		if !slices.ContainsFunc(addrs, func(addr netip.Addr) bool { return slices.Contains(ep.Addrs, addr) }) {
			continue
		}
		lives, err := o.lives(ep)
		if err != nil {
			return err
		}
		if lives {
			return fmt.Errorf("addresses %v in network %s: endpoint %s on this host has %v: remove its container, or choose another address with --ip", addrs, n.Key, short(ep.ID), ep.Addrs)
		}
		n.logOf(ep).WithField("addrs", ep.Addrs).Warn("endpoint removed: Docker gave its address away")
		if err := o.remove(n, ep); err != nil {
			return err
		}
	}
	return nil
}

// lives says whether a container has the endpoint's tap.
func (o *Overlay) lives(ep *endpoint) (bool, error) {
	if ep.State != StateJoined {
		return false, nil
	}
	return o.cfg.HasTap(ep.Sandbox, ep.alias())
}

// silent asks the hosts that have the endpoint's MAC or one of its addresses whether they are there, and gives those that do
// not answer. Each may take a second, so that no lock is held: what changes meanwhile is found by free.
func (o *Overlay) silent(ep *Endpoint) map[string]bool {
	o.mu.RLock()
	n := o.networks[ep.NetworkID]
	o.mu.RUnlock()
	if n == nil {
		return nil
	}
	silent := map[string]bool{}
	for _, r := range o.rivals(n, ep) {
		if _, asked := silent[r.Owner]; !asked && !r.Hidden {
			silent[r.Owner] = !o.cluster.Answers(r.Owner)
		}
	}
	return silent
}

// free checks that nobody else has the endpoint's MAC and addresses: Docker can't renumber a running container, so a
// duplicate must be refused at its start. Records of hosts that are dead do not count, nor those of a host that has just
// died, and so was silent: what it ran may be started elsewhere at once.
func (o *Overlay) free(n *network, ep *Endpoint, silent map[string]bool) error {
	for _, other := range n.endpoints {
		if other.MAC == ep.MAC && other.ID != ep.ID {
			return fmt.Errorf("MAC address %s in network %s: endpoint %s on this host has it: give another --mac-address", ep.MAC, n.Key, short(other.ID))
		}
	}
	for _, r := range o.rivals(n, ep) {
		if r.Hidden {
			continue
		}
		if silent[r.Owner] {
			n.log.WithFields(logrus.Fields{"endpoint": short(ep.ID), "addrs": ep.Addrs, "mac": ep.MAC}).Warnf("endpoint taken over from host %s, which does not answer", o.host(r.Owner))
			continue
		}
		for _, addr := range ep.Addrs {
			if slices.Contains(r.Endpoint.Addrs, addr) {
				return fmt.Errorf("address %s in network %s: %s: %s", addr, n.Key, o.possession(r), otherAddress(r.Owner))
			}
		}
		return fmt.Errorf("MAC address %s in network %s: %s: give another --mac-address", ep.MAC, n.Key, o.possession(r))
	}
	return nil
}

// possession says who has what a container asks for.
func (o *Overlay) possession(r discovery.Record) string {
	if r.Owner == discovery.StaticOwner {
		return fmt.Sprintf("by the daemon's --static file VTEP %s has it", r.VTEP)
	}
	return fmt.Sprintf("host %s has it on endpoint %s", o.host(r.Owner), short(r.Endpoint.ID))
}

// otherAddress is how not to get an address that is somebody else's.
func otherAddress(owner string) string {
	if owner == discovery.StaticOwner {
		return "choose another with --ip, or create the network with --aux-address, which keeps it from containers"
	}
	return "create the network with --ipam-driver overlane, or with an --ip-range of its own on each host, or choose the address with --ip"
}

// rivals are the records of other hosts with the endpoint's MAC or one of its addresses, hidden ones too.
func (o *Overlay) rivals(n *network, ep *Endpoint) []discovery.Record {
	return o.cluster.Claims(n.Key, ep.MAC, ep.Addrs)
}

// nextSeq is the mobility sequence number to announce: above that of every host which had the MAC or an address before
// (RFC 7432 section 15). An endpoint that did not move keeps its own.
func (o *Overlay) nextSeq(n *network, ep *Endpoint) uint32 {
	seq := ep.Seq
	for _, r := range o.rivals(n, ep) {
		seq = max(seq, r.Endpoint.Seq+1)
	}
	return seq
}

// host names the owner of a record for people.
func (o *Overlay) host(owner string) string {
	for _, m := range o.cluster.Members() {
		if m.ID == owner {
			return m.Host
		}
	}
	return owner
}
