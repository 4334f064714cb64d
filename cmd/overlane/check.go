package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime/debug"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/internal/check"
	"github.com/overlane/overlane/overlay"
)

func checkCommand() *cobra.Command {
	f := new(controlFlags)
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say whether this host can run overlane well, and what to do where it can't",
		Long: "Say whether this host can run overlane well, and what to do where it can't: CPU, kernel, clock, ports, firewall, and\n" +
			"the way to the other hosts, which are the running daemon's members, else those of --join. It takes the daemon's flags\n" +
			"and environment variables, and changes nothing. Its exit status is 1 when something fails.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.checkOutput(); err != nil {
				return err
			}
			s, err := readSettings(cmd.Flags(), daemonSettings)
			if err != nil {
				return err
			}
			results := examine(cmd.Context(), s)
			if err := write(cmd.OutOrStdout(), f, results, writeResults); err != nil {
				return err
			}
			if check.Failed(results) {
				return errors.New("this host can't run overlane well")
			}
			return nil
		},
	}
	addFlags(cmd.Flags(), daemonSettings)
	f.addOutput(cmd)
	return cmd
}

func writeResults(out io.Writer, results []check.Result) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row(w, "CHECK", "STATE", "SEEN", "CURE")
	for _, r := range results {
		row(w, r.Check, r.State, r.Seen, r.Cure)
	}
	return w.Flush()
}

// examine checks the host for a daemon with these settings, beside the one that runs if one does.
func examine(ctx context.Context, s settings) []check.Result {
	c := check.Config{
		VTEP: s.vtep(), Gossip: netip.AddrPortFrom(s.advertise, s.gossipPort), VXLANPort: s.vxlanPort, Metrics: s.metrics,
		Built: built(),
	}
	if s.underlay.KernelInterface() {
		c.Interface = s.underlay.Device
	}
	if mtu, err := overlay.DeviceMTU(c.VTEP); err == nil {
		c.UnderlayMTU = mtu
	}
	var results []check.Result
	if pid, err := daemonOf(s.controlSocket); err == nil {
		c.Daemon = pid
		results = askDaemon(ctx, s, &c)
	} else {
		results = append([]check.Result{{Check: "daemon", State: check.OK, Seen: "not running"}}, seekHosts(ctx, s, &c)...)
	}
	return append(results, check.Run(c)...)
}

// askDaemon takes networks and members from the daemon that runs.
func askDaemon(ctx context.Context, s settings, c *check.Config) []check.Result {
	status, err := fetch[overlay.Status](ctx, s.controlSocket, "status")
	if err != nil {
		return []check.Result{{Check: "daemon", State: check.Warn, Seen: err.Error(), Cure: "check again when it is ready"}}
	}
	r := check.Result{Check: "daemon", State: check.OK, Seen: fmt.Sprintf("%s runs, with VTEP %s", status.Node.Version, status.Node.VTEP)}
	if status.Node.VTEP != netip.AddrPortFrom(c.VTEP, c.VXLANPort) || status.Node.Gossip != c.Gossip {
		r.State = check.Warn
		r.Seen += fmt.Sprintf(", and gossips on %s: not the settings that are checked", status.Node.Gossip)
		r.Cure = "give this command the daemon's flags and environment"
	}
	for _, n := range status.Networks {
		c.NetworkMTU = max(c.NetworkMTU, n.MTU)
	}
	results := []check.Result{r}
	for _, m := range status.Members {
		switch {
		case m.Self:
		case m.State == discovery.StateAlive:
			c.Peers = append(c.Peers, check.Peer{Name: m.Host, Gossip: m.Gossip, VTEP: m.VTEP})
		default:
			results = append(results, check.Result{Check: "member " + m.Host, State: check.Warn, Seen: m.Reason, Cure: m.Advice})
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

// seekHosts takes the other hosts from --join, with the ports and VTEPs that they have unless told otherwise.
func seekHosts(ctx context.Context, s settings, c *check.Config) []check.Result {
	var results []check.Result
	for _, text := range s.join {
		host, port := splitHost(text, s.gossipPort)
		addrs, err := lookup(ctx, host, s.advertise.Is6())
		if err != nil {
			results = append(results, check.Result{Check: "host " + text, State: check.Fail, Seen: err.Error(),
				Cure: fmt.Sprintf("give --join an address of the family of %s, or a name that leads to one", s.advertise)})
		}
		for _, addr := range addrs {
			if addr = addr.Unmap(); addr != s.advertise {
				c.Peers = append(c.Peers, check.Peer{Name: addr.String(), Gossip: netip.AddrPortFrom(addr, port), VTEP: netip.AddrPortFrom(addr, s.vxlanPort)})
			}
		}
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

// built is when the commit was made that this program was made of; zero where the build does not know it.
func built() time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			at, _ := time.Parse(time.RFC3339, s.Value)
			return at
		}
	}
	return time.Time{}
}
