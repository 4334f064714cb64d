package overlay

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
)

const (
	interfacesInterval = 5 * time.Second       // between looks at containers' interfaces
	interfacesPace     = 50 * time.Millisecond // for each of them, at least: a look takes 0.3 ms of CPU time, so 0.6 % of a core
)

// runInterfaces looks, until the overlay is closed, whether the interfaces in containers are as Docker set them up: a container with
// NET_ADMIN, or an operator, may have changed one, and all that is to be seen elsewhere is that packets get no answer.
func (o *Overlay) runInterfaces() { o.runPaced(interfacesInterval, interfacesPace, o.lookAtInterfaces) }

// lookAtInterfaces says at how many it has looked. No network is locked meanwhile.
func (o *Overlay) lookAtInterfaces() (looked int) {
	for _, e := range o.inContainers() {
		looked++
		tap, err := o.cfg.Datapath.Tap(e.port)
		if err != nil {
			continue // it is gone, or not to be seen from here
		}
		state := interfaceState(&e.Endpoint, e.port, tap)
		o.withEndpoint(e.NetworkID, e.ID, func(n *network, ep *endpoint) error {
			if ep.Sandbox == e.Sandbox {
				ep.noteInterface(n, state)
			}
			return nil
		})
	}
	return looked
}

// looked is an endpoint whose tap is looked at.
type looked struct {
	Endpoint
	port datapath.PortConfig
}

func (o *Overlay) inContainers() (all []looked) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	for _, n := range o.networks {
		n.mu.Lock()
		for _, ep := range n.endpoints {
			if ep.State == StateJoined && ep.Host == nil && ep.Native == nil {
				all = append(all, looked{ep.Endpoint, n.portConfig(ep, ep.Sandbox)})
			}
		}
		n.mu.Unlock()
	}
	return all
}

// InterfaceStatus is a container's interface as somebody may have changed it.
type InterfaceStatus struct {
	Health            // zero: it is as it was given
	Lost   netip.Addr `json:"lost_address,omitzero"`
}

// interfaceState says what of a container's interface is not as it was given. With trust=mac others may be behind it, who have its addresses.
func interfaceState(ep *Endpoint, port datapath.PortConfig, tap datapath.TapState) InterfaceStatus {
	again := "`docker restart " + cmp.Or(ep.container(), "CONTAINER") + "` gives it what it had"
	lost := slices.IndexFunc(port.Addrs, func(a netip.Addr) bool { return lacks(tap, a) })
	switch {
	case !tap.Up:
		return InterfaceStatus{Health: Health{fmt.Sprintf("its interface %s is down", tap.Name), again}}
	case port.Trust == datapath.TrustMAC:
	case tap.MAC != port.MAC:
		return InterfaceStatus{Health: Health{fmt.Sprintf("its interface %s has MAC address %s, not %s: what it sends is dropped as spoofed_mac", tap.Name, tap.MAC, port.MAC), again + "; if it is to have its own, see docs/trust.md"}}
	case lost >= 0:
		return InterfaceStatus{Health{fmt.Sprintf("its interface %s has lost address %s: what is sent to it gets no answer", tap.Name, port.Addrs[lost]), again}, port.Addrs[lost]}
	}
	return InterfaceStatus{}
}

// lacks says that a container has an address nowhere. One of IPv6 is not missed where the interface has none at all: IPv6 is switched off there.
func lacks(tap datapath.TapState, addr netip.Addr) bool {
	off := addr.Is6() && !slices.ContainsFunc(tap.Addrs, netip.Addr.Is6)
	return !off && !slices.Contains(tap.Addrs, addr) && !slices.Contains(tap.Others, addr)
}

// Sandboxes are the paths of the network namespaces of this host's containers, each once.
func (o *Overlay) Sandboxes() (paths []string) {
	for _, e := range o.inContainers() {
		paths = append(paths, e.Sandbox)
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// ContainerProblems tells of the containers of this host whose interfaces are not well.
func (o *Overlay) ContainerProblems() []Problem {
	var s Status
	o.addLocal(&s, discovery.Member{}, nil)
	return containerProblems(s.Endpoints)
}

// Unnamed is why containers of this host have no names; empty: all have them.
func (o *Overlay) Unnamed() string {
	var s Status
	o.addLocal(&s, discovery.Member{}, nil)
	if names := o.Names(); slices.ContainsFunc(s.Endpoints, isUnnamed) {
		return cmp.Or(names.Off, names.Engine)
	}
	return ""
}

// noteInterface has what two looks in succession saw be so: what is seen once may be Docker at work.
func (ep *endpoint) noteInterface(n *network, seen InterfaceStatus) {
	if seen == ep.seen && seen != ep.iface {
		ep.iface = seen
		if seen.Reason != "" {
			n.logOf(ep).WithField("advice", seen.Advice).Warn("a container is not well: " + seen.Reason)
		} else {
			n.logOf(ep).Info("the container is well again")
		}
	}
	ep.seen = seen
}
