package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/overlay"
)

// simulation is what would become of a packet, step by step.
type simulation struct {
	Steps   []string `json:"steps"`
	Arrives bool     `json:"arrives"`
	Reason  string   `json:"reason,omitempty"` // why it does not
	Advice  string   `json:"advice,omitempty"` // the next step then
}

// errNotArrives is how a simulation of a packet that does not arrive ends.
var errNotArrives = errors.New("it would not arrive")

func simulateTrace(cmd *cobra.Command, f *controlFlags, network string, args []string, output string) error {
	if len(args) < 2 || len(args) > 4 {
		return errors.New("want FROM and TO: overlane trace --simulate web db")
	}
	status, err := fetch[overlay.Status](cmd.Context(), f.socket, "status")
	if err != nil {
		return err
	}
	s, err := simulate(&status, network, args[0], args[1])
	if err != nil {
		return err
	}
	f.output = map[string]string{"text": "table", "json": "json"}[output]
	if err := write(cmd.OutOrStdout(), f, s, func(out io.Writer, s simulation) error { return s.write(out, args[2:]) }); err != nil {
		return err
	}
	if !s.Arrives {
		return errNotArrives
	}
	return nil
}

func (s simulation) write(out io.Writer, transport []string) error {
	for i, step := range s.Steps {
		fmt.Fprintf(out, "%d. %s\n", i+1, step)
	}
	switch {
	case !s.Arrives:
		fmt.Fprintf(out, "It does not arrive: %s.\n", s.Reason)
		if s.Advice != "" {
			fmt.Fprintf(out, "Next: %s.\n", s.Advice)
		}
	case len(transport) > 0:
		fmt.Fprintf(out, "It arrives. overlane lets all of %s pass: whether something there listens is the container's.\n", strings.Join(transport, " port "))
	default:
		fmt.Fprintln(out, "It arrives, if the container still has its address: `overlane check` on its host looks.")
	}
	return nil
}

// party is a container on a network, as this host knows it.
type party struct {
	name, network, host     string
	addrs                   []netip.Addr
	local                   bool
	hasPort, hidden         bool
	overlay.InterfaceStatus // where the host knows
}

// parties are all containers of this host's networks.
func parties(s *overlay.Status) (all []party) {
	for _, e := range s.Endpoints {
		name, _, _ := strings.Cut(e.Names, " ")
		all = append(all, party{cmp.Or(name, e.ID), e.Network, s.Node.Host, e.Addrs, true, e.HasPort, false, e.InterfaceStatus})
	}
	for _, r := range s.Remote {
		name, _, _ := strings.Cut(r.Names, " ")
		all = append(all, party{cmp.Or(name, r.ID), r.Network, r.Host, r.Addrs, false, true, r.Hidden, overlay.InterfaceStatus{}})
	}
	return all
}

func (p *party) is(text string) bool {
	addr, err := netip.ParseAddr(text)
	return strings.EqualFold(p.name, text) || err == nil && slices.Contains(p.addrs, addr)
}

func (p *party) has(version func(netip.Addr) bool) bool { return slices.ContainsFunc(p.addrs, version) }

func (p *party) text() string {
	return fmt.Sprintf("%s (%s, host %s)", p.name, joinAddrs(p.addrs), p.host)
}

func joinAddrs(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, " ")
}

func partiesNamed(all []party, text string, networks []string) (found []party) {
	for _, p := range all {
		if p.is(text) && (networks == nil || slices.Contains(networks, p.network)) {
			found = append(found, p)
		}
	}
	return found
}

// simulate follows a packet by what a host knows.
func simulate(s *overlay.Status, network, from, to string) (simulation, error) {
	all := parties(s)
	var within []string
	if network != "" {
		i := slices.IndexFunc(s.Networks, func(n overlay.NetworkStatus) bool { return n.Name == network || n.Key == network || n.ID == network })
		if i < 0 {
			return simulation{}, fmt.Errorf("network %q: this host has none of that name, key or ID: `overlane status` lists them", network)
		}
		within = []string{s.Networks[i].Key}
	}
	senders := partiesNamed(all, from, within)
	if len(senders) == 0 {
		return simulation{}, fmt.Errorf("FROM %q: no container on this host's networks has this name or address: `overlane status` lists them", from)
	}
	var shared []string
	for _, p := range senders {
		shared = append(shared, p.network)
	}
	receivers := partiesNamed(all, to, shared)
	if len(receivers) == 0 {
		return nobody(s, all, senders, to)
	}
	receiver := receivers[0]
	sender := senders[slices.IndexFunc(senders, func(p party) bool { return p.network == receiver.network })]
	return followPacket(s, sender, receiver), nil
}

// nobody is of a packet to what is not a container of the sender's networks.
func nobody(s *overlay.Status, all, senders []party, to string) (simulation, error) {
	var sim simulation
	if elsewhere := partiesNamed(all, to, nil); len(elsewhere) > 0 {
		sim.Reason = fmt.Sprintf("%s is on %s, and %s is not: networks are apart", elsewhere[0].text(), elsewhere[0].network, senders[0].name)
		sim.Advice = "give both containers a network: docker network connect"
		return sim, nil
	}
	addr, err := netip.ParseAddr(to)
	if err != nil {
		return sim, fmt.Errorf("TO %q: no container on this host's networks has this name, and it is no address: `overlane resolve %s` says who is called so", to, to)
	}
	for _, n := range s.Networks {
		for _, subnet := range n.Subnets {
			if subnet.Masked().Contains(addr) && slices.ContainsFunc(senders, func(p party) bool { return p.network == n.Key }) {
				sim.Steps = append(sim.Steps, fmt.Sprintf("%s asks who has %s; the host answers for all containers of %s", senders[0].text(), addr, n.Key))
				sim.Reason = fmt.Sprintf("no container that this host knows of has %s: the question is dropped as arp_unknown, or nd_unknown", addr)
				sim.Advice = "look whether the container runs, and on which host: `overlane status records`"
				return sim, nil
			}
		}
	}
	sim.Reason = fmt.Sprintf("%s is in no subnet of %s's networks: it goes to the container's default gateway, Docker's docker_gwbridge, and not through overlane", addr, senders[0].name)
	return sim, nil
}

// followPacket goes from host to host.
func followPacket(s *overlay.Status, from, to party) (sim simulation) {
	step := func(format string, args ...any) { sim.Steps = append(sim.Steps, fmt.Sprintf(format, args...)) }
	fails := func(h overlay.Health) simulation { sim.Reason, sim.Advice = h.Reason, h.Advice; return sim }

	step("%s sends to %s on %s", from.text(), joinAddrs(to.addrs), from.network)
	if !from.hasPort {
		return fails(overlay.Health{Reason: from.name + " has no port on this host's datapath", Advice: "`overlane status` tells why below PENDING"})
	}
	for _, p := range []party{from, to} {
		switch {
		case p.Reason == "":
		case p.Lost.Is6() && from.has(netip.Addr.Is4) && to.has(netip.Addr.Is4):
			step("%s: %s; by IPv4 it goes on", p.name, p.Reason)
		default:
			return fails(overlay.Health{Reason: p.name + ": " + p.Reason, Advice: p.Advice})
		}
	}
	for _, c := range s.Conflicts {
		if c.Network == to.network && slices.ContainsFunc(to.addrs, func(a netip.Addr) bool { return a.String() == c.Address }) {
			return fails(overlay.Health{Reason: fmt.Sprintf("%s is claimed by %s", c.Address, strings.Join(c.Claims, " and ")), Advice: "remove all of these containers but one"})
		}
	}
	if from.host == to.host {
		step("host %s has %s itself: the packet does not leave it", to.host, to.name)
		sim.Arrives = true
		return sim
	}
	far := to.host
	if !from.local {
		far = from.host
		step("%s is on another host: what follows is what %s knows; run this there as well", from.name, s.Node.Host)
	}
	if to.hidden {
		return fails(memberHealth(s, to.host))
	}
	path, h := wayTo(s, far)
	if h != (overlay.Health{}) {
		return fails(h)
	}
	how := "as VXLAN"
	if i := slices.IndexFunc(s.Networks, func(n overlay.NetworkStatus) bool { return n.Key == to.network }); i >= 0 && s.Networks[i].Encrypted {
		how = "encrypted"
		if h := keyFor(s, far); h != (overlay.Health{}) {
			return fails(h)
		}
	}
	step("it goes %s to host %s at %s, by a path that carries IP packets of %d bytes", how, far, path.VTEP, path.MTU)
	step("host %s delivers it to %s", to.host, to.name)
	sim.Arrives = true
	return sim
}

func memberHealth(s *overlay.Status, host string) overlay.Health {
	for _, m := range s.Members {
		if m.Host == host && m.Reason != "" {
			return overlay.Health{Reason: fmt.Sprintf("host %s: %s", host, m.Reason), Advice: m.Advice}
		}
	}
	return overlay.Health{Reason: fmt.Sprintf("host %s is down", host), Advice: "see what `overlane status members` says of it"}
}

// wayTo is the path to a host.
func wayTo(s *overlay.Status, host string) (overlay.PathStatus, overlay.Health) {
	i := slices.IndexFunc(s.Paths, func(p overlay.PathStatus) bool { return p.Host == host })
	switch {
	case i < 0:
		return overlay.PathStatus{}, memberHealth(s, host)
	case s.Paths[i].MTU == 0:
		return s.Paths[i], overlay.Health{Reason: fmt.Sprintf("there is no route to host %s at %s: packets are dropped as underlay_unreachable", host, s.Paths[i].VTEP), Advice: "look at this host's routes: ip route get " + s.Paths[i].VTEP.Addr().String()}
	case slices.ContainsFunc(s.Members, func(m overlay.MemberStatus) bool { return m.Host == host && m.State == discovery.StateDead }):
		return s.Paths[i], memberHealth(s, host)
	}
	return s.Paths[i], overlay.Health{}
}

// keyFor says why there is no key for a host.
func keyFor(s *overlay.Status, host string) overlay.Health {
	for _, e := range s.Encryption {
		if e.Host == host && e.Cipher == "" {
			return overlay.Health{Reason: cmp.Or(e.Reason, "no key has been agreed on yet with host "+host+": packets are dropped as esp_no_key"), Advice: e.Advice}
		}
	}
	return overlay.Health{}
}
