package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/overlane/overlane/overlay/ipam"
)

func ipamCommand() *cobra.Command {
	f := new(controlFlags)
	cmd := &cobra.Command{
		Use:   "ipam",
		Short: "Show the pools of networks with --ipam-driver overlane, which host has which addresses, and those in use here",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return show(cmd, f, "ipam", writeAddresses) },
	}
	cmd.AddCommand(reclaimCommand(f))
	cmd.AddCommand(&cobra.Command{
		Use:   "take ADDRESS",
		Short: "Take one address from a host that is down, for a container of this host",
		Long: "Take one address from a host that is down, for a container of this host: for when `docker run --ip` refuses it since this host may be\n" +
			"the one that is cut off. It is your word that the container there does not run any more: if it does, it is cut off when its host is back.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return post(cmd, f, "ipam/take", args[0]) },
	})
	f.addOutput(cmd)
	f.addSocket(cmd)
	return cmd
}

func reclaimCommand(f *controlFlags) *cobra.Command {
	var down bool
	cmd := &cobra.Command{
		Use:   "reclaim NODE...",
		Short: "Take the addresses of hosts that are lost for good, by name or ID",
		Long: "Take the addresses of hosts that are lost for good, by name or ID. Those that their last containers had are handed out last.\n" +
			"All other hosts are to be up, or to be named too; --down names all that are down, as `overlane ipam` shows them. It is refused where this\n" +
			"host may be the one that is cut off. A host that comes back after all hears of it from the others before it hands out an address again;\n" +
			"do not start it where it finds none of them.",
		Args: func(_ *cobra.Command, args []string) error { return hostsOrDown(args, down) },
		RunE: func(cmd *cobra.Command, args []string) error {
			return post(cmd, f, "ipam/reclaim", named(args, down))
		},
	}
	cmd.Flags().BoolVar(&down, "down", false, "all hosts that are down, in place of NODE...")
	return cmd
}

func leaveCommand() *cobra.Command {
	f := new(controlFlags)
	cmd := &cobra.Command{
		Use:   "leave",
		Short: "Give this host's addresses to the others and end its daemon, for good",
		Long: "Give this host's addresses to the others and end its daemon, for good. It is refused while containers of this host have addresses.\n" +
			"What `overlane attach` gave this host ends with it. A daemon that is merely stopped keeps its addresses for the next start, and the others keep its records for some seconds.\n" +
			"One that is started again joins again: `systemctl disable overlane`, and remove it. As a managed plugin it is started again at once: `docker plugin disable -f` and `rm` it.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return post(cmd, f, "leave", "") },
	}
	f.addSocket(cmd)
	return cmd
}

func writeAddresses(out io.Writer, s ipam.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row(w, "POOL", "SUBNET", "RANGE HERE", "GATEWAY", "STATE")
	for _, p := range s.Pools {
		within, gateway := "all", "-"
		if p.Range.IsValid() {
			within = p.Range.String()
		}
		if p.Gateway.IsValid() {
			gateway = p.Gateway.String()
		}
		row(w, p.Key, p.Subnet, within, gateway, p.State)
	}
	fmt.Fprintln(w)
	row(w, "HOST", "SUBNET", "STATE", "LAST SEEN", "BLOCKS", "ADDRESSES", "FREE", "ID")
	for _, b := range s.Blocks {
		free := "-"
		if b.Free != nil {
			free = fmt.Sprint(*b.Free)
		}
		seen := "now"
		switch {
		case b.State == "down" && b.LastSeen.IsZero():
			seen = "over a day ago"
		case b.State == "down":
			seen = b.LastSeen.Local().Format(time.DateTime)
		}
		row(w, b.Host, b.Subnet, b.State, seen, b.Blocks, b.Addresses, free, short(b.Node))
	}
	fmt.Fprintln(w)
	row(w, "ADDRESS HERE", "NAME", "ENDPOINT", "MAC", "SINCE", "IN A BLOCK OF")
	for _, l := range s.Leases {
		row(w, l.Addr, cmp.Or(l.Name, "-"), short(l.Endpoint), l.MAC, l.Since.Format(time.DateTime), l.Owner)
	}
	if len(s.Conflicts) > 0 {
		fmt.Fprintln(w)
		row(w, "CONFLICT", "POOL", "ALSO IN USE ON")
		for _, c := range s.Conflicts {
			row(w, c.Addr, c.Key, c.Host)
		}
	}
	return w.Flush()
}

func (c *control) addresses(w http.ResponseWriter, _ *http.Request) {
	if o := c.ready(w); o != nil {
		answer(w, o.Addresses())
	}
}

func (c *control) reclaim(w http.ResponseWriter, r *http.Request) {
	o := c.ready(w)
	if o == nil {
		return
	}
	hosts, ok := hostsOf(w, r)
	if !ok {
		return
	}
	taken, err := o.ReclaimAddresses(hosts)
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusConflict)
	case taken.From == "":
		io.WriteString(w, "no host is down that has addresses\n")
	default:
		fmt.Fprintf(w, "%d addresses can be handed out again that these hosts had: %s\n", taken.Addresses, taken.From)
	}
}

func (c *control) take(w http.ResponseWriter, r *http.Request) {
	o := c.ready(w)
	if o == nil {
		return
	}
	text, err := io.ReadAll(io.LimitReader(r.Body, maxArgument))
	if err != nil {
		return // the client went away
	}
	addr, err := netip.ParseAddr(string(text))
	if err != nil {
		http.Error(w, fmt.Sprintf("address %q: want one such as 10.20.0.9", text), http.StatusBadRequest)
		return
	}
	if err := o.TakeAddress(addr); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	fmt.Fprintf(w, "%s is this host's now: start its container here\n", addr)
}

// leave ends the daemon once its addresses are given away.
func (c *control) leave(w http.ResponseWriter, _ *http.Request) {
	o := c.ready(w)
	if o == nil {
		return
	}
	if err := o.LeaveAddresses(); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	io.WriteString(w, "this host has left: its addresses are the others', and its daemon stops\n")
	c.stop()
}
