package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/internal/check"
	"github.com/overlane/overlane/overlay"
)

// examine checks the host for a daemon with these settings, beside the one that runs if one does.
func examine(ctx context.Context, s settings) []check.Result {
	c := check.Config{
		VTEP: s.source(), Gossip: netip.AddrPortFrom(s.local, s.gossipPort), VXLANPort: s.vxlanPort, Metrics: s.metrics,
		DockerSocket: s.dockerSocket, Built: built(), Encrypt: s.encrypt,
	}
	if s.underlay.KernelInterface() {
		c.Interface = s.underlay.Device
	}
	c.WholeFrames, c.WholeFramesAsked = s.underlay.Device == "" || s.underlay.Device == datapath.UnderlayTun, s.underlay.Device != ""
	var results []check.Result
	if pid, err := daemonOf(s.controlSocket); err == nil {
		c.Daemon = pid
		results = askDaemon(ctx, s, &c)
	} else {
		results = append([]check.Result{{Check: "daemon", State: check.OK, Seen: "not running"}}, resolveJoin(ctx, s, &c)...)
	}
	if s.exposed != "" {
		results = append(results, check.Result{Check: "token", State: check.Warn, Seen: "everybody on this host may read " + s.exposed + ", or write it",
			Cure: "run chmod o= on it, and `overlane token rotate` where others may have read it"})
	}
	var vteps []netip.Addr
	for _, p := range c.Peers {
		vteps = append(vteps, p.VTEP.Addr())
	}
	if mtu, err := overlay.UnderlayMTU(c.VTEP, vteps); err == nil {
		c.UnderlayMTU = mtu
	}
	return append(results, check.Run(c)...)
}

// askDaemon takes networks and members from the daemon that runs.
func askDaemon(ctx context.Context, s settings, c *check.Config) []check.Result {
	status, err := fetch[overlay.Status](ctx, s.controlSocket, "status")
	if refused := refusal(""); errors.As(err, &refused) {
		return []check.Result{{Check: "daemon", State: check.Fail, Seen: err.Error(), Cure: "do as it says"}}
	}
	if err != nil {
		return []check.Result{{Check: "daemon", State: check.Warn, Seen: err.Error(), Cure: "check again when it is ready"}}
	}
	r := check.Result{Check: "daemon", State: check.OK, Seen: fmt.Sprintf("%s runs, with VTEP %s", status.Node.Version, status.Node.VTEP)}
	if status.Node.VTEP != netip.AddrPortFrom(s.vtep(), s.vxlanPort) || status.Node.Gossip != netip.AddrPortFrom(s.advertise, s.gossipPort) {
		r.State = check.Warn
		r.Seen += fmt.Sprintf(", and gossips on %s: not the settings that are checked", status.Node.Gossip)
		r.Cure = "give this command the daemon's flags and environment; for the service: (set -a; . /etc/default/overlane; overlane check)"
	}
	for _, n := range status.Networks {
		widest := &c.NetworkMTU
		if n.Encrypted {
			widest = &c.EncryptedMTU
		}
		*widest = max(*widest, cmp.Or(n.Widest, n.MTU))
	}
	return slices.Concat([]check.Result{r}, examineMembers(status.Members, c), examineContainers(status.Endpoints))
}

// examineMembers takes the members that are up for peers, and says what is not well with any.
func examineMembers(members []overlay.MemberStatus, c *check.Config) (results []check.Result) {
	for _, m := range members {
		up := m.State == discovery.StateAlive
		if up && !m.Self {
			c.Peers = append(c.Peers, check.Peer{Name: m.Host, Gossip: m.Gossip, VTEP: m.VTEP})
		}
		if m.Reason == "" {
			continue
		}
		state := check.Warn
		if up {
			state = check.Fail // it is there, and what keeps the hosts apart can be removed
		}
		results = append(results, check.Result{Check: "member " + m.Host, State: state, Seen: m.Reason, Cure: m.Advice})
	}
	return results
}

// examineContainers says whose interface somebody has changed: it is that container's fault alone.
func examineContainers(endpoints []overlay.EndpointStatus) (results []check.Result) {
	for _, e := range endpoints {
		if e.Reason != "" {
			results = append(results, check.Result{Check: "container " + called(e.Names, e.ID), State: check.Warn, Seen: e.Reason, Cure: e.Advice})
		}
	}
	return results
}

// daemonOf is the process that serves a control socket.
func daemonOf(path string) (int, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *unix.Ucred
	failed := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, failed); err != nil {
		return 0, err
	}
	return int(peer.Pid), nil
}

// How long a name of --join may take to be looked up.
const lookupTimeout = 3 * time.Second

// resolveJoin takes the other hosts from --join, with the ports and VTEPs that they have unless told otherwise.
func resolveJoin(ctx context.Context, s settings, c *check.Config) []check.Result {
	var results []check.Result
	itself := false
	for _, text := range s.join {
		host, port := splitHost(text, s.gossipPort)
		addrs, err := lookup(ctx, host, s.advertise.Is6())
		if err != nil {
			results = append(results, check.Result{Check: "host " + text, State: check.Fail, Seen: err.Error(),
				Cure: fmt.Sprintf("give --join an address of the family of %s, or a name that leads to one", s.advertise)})
		}
		for _, addr := range addrs {
			if addr = addr.Unmap(); addr == s.advertise {
				itself = true
				continue
			}
			c.Peers = append(c.Peers, check.Peer{Name: addr.String(), Gossip: netip.AddrPortFrom(addr, port), VTEP: netip.AddrPortFrom(addr, s.vxlanPort)})
		}
	}
	if itself && len(c.Peers) == 0 {
		results = append(results, check.Result{Check: "hosts to join", State: check.Warn, Seen: fmt.Sprintf("%s is this host, and --join names no other", s.advertise),
			Cure: "name another host, unless this is the first; where all hosts have this address, give each --advertise with one of its own"})
	}
	return results
}

// splitHost takes an entry of --join apart.
func splitHost(text string, port uint16) (string, uint16) {
	if host, number, err := net.SplitHostPort(text); err == nil {
		parsePort(&port, number) // it was checked with the flag
		return host, port
	}
	return text, port
}

// lookup gives the addresses of a family.
func lookup(ctx context.Context, host string, six bool) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	network := "ip4"
	if six {
		network = "ip6"
	}
	return net.DefaultResolver.LookupNetIP(ctx, network, host)
}
