package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/overlane/overlane/connectivity"
	"github.com/overlane/overlane/engine"
	"github.com/overlane/overlane/networks"
)

// engineNetworks makes networks by the engine's API; nil where it is not to be used.
func engineNetworks(s settings) networks.Engine {
	if s.dockerSocket == "" {
		return nil
	}
	return engine.NewNetworks(s.dockerSocket, filepath.Base(s.pluginSocket))
}

// makesNetworks says why this host can't have a network made on all hosts.
func (s settings) makesNetworks() error {
	if s.dockerSocket == "" {
		return networks.ErrNoEngine
	}
	if _, err := os.Stat(s.dockerSocket); err != nil {
		return fmt.Errorf("overlane does not see Docker's socket, see --docker-socket (OVERLANE_DOCKER_SOCKET): %w", err)
	}
	return nil
}

// receive gives a user message to whom it is for.
func (n *node) receive(from string, text []byte) {
	switch {
	case len(text) > 0 && text[0] == networks.ProtocolVersion:
		n.networks.Receive(from, text)
	case len(text) > 0 && text[0] == connectivity.ProtocolVersion:
		n.tests.Receive(from, text)
	default:
		n.overlay.Receive(from, text)
	}
}

func networkCommand() *cobra.Command {
	f := new(controlFlags)
	cmd := &cobra.Command{
		Use:   "network",
		Short: "Make and remove networks on all hosts at once",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(networkCreateCommand(f), networkRemoveCommand(f), networkListCommand(f), networkInspectCommand(f))
	f.addSocket(cmd)
	return cmd
}

// networkWish is what `overlane network create` sends.
type networkWish struct {
	Name string      `json:"name"`
	Only []string    `json:"only"`
	Spec engine.Spec `json:"spec"`
}

func networkCreateCommand(f *controlFlags) *cobra.Command {
	var subnets, ranges, gateways, options, ipamOptions, labels []string
	wish := networkWish{}
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a network on all hosts, also on those that come later",
		Long: "Make a network on all hosts, also on those that come later, under the same name in each engine. This host's engine makes it first: what\n" +
			"it refuses is not made anywhere. Hosts that do not have it soon are listed, with the reason; they go on trying. The flags mean what they mean\n" +
			"to `docker network create`.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			wish.Name = args[0]
			if wish.Spec.IPAM.Config, err = poolsOf(subnets, ranges, gateways); err != nil {
				return err
			}
			wish.Spec.Options, wish.Spec.IPAM.Options, wish.Spec.Labels = mapOf(options), mapOf(ipamOptions), mapOf(labels)
			wish.Spec.Options[networks.Option] = "true"
			return changeNetwork(cmd, f, "networks", wish, "is on")
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&subnets, "subnet", nil, "a subnet such as 10.20.0.0/16; twice for IPv4 and IPv6 (default: one that overlane chooses)")
	flags.StringArrayVar(&ranges, "ip-range", nil, "the part of a subnet from which containers get addresses")
	flags.StringArrayVar(&gateways, "gateway", nil, "a subnet's gateway")
	flags.StringVar(&wish.Spec.IPAM.Driver, "ipam-driver", networks.OwnIPAM, "who hands out addresses: overlane, to all hosts, or default, Docker on each host for itself")
	flags.StringArrayVar(&ipamOptions, "ipam-opt", nil, "an option of the addresses, as KEY=VALUE")
	flags.BoolVar(&wish.Spec.EnableIPv6, "ipv6", false, "containers get IPv6 addresses too")
	flags.BoolVar(&wish.Spec.Internal, "internal", false, "containers reach nothing but each other")
	flags.StringArrayVarP(&options, "opt", "o", nil, "an option of the network, as KEY=VALUE")
	flags.StringArrayVar(&labels, "label", nil, "a label, as KEY=VALUE")
	flags.StringSliceVar(&wish.Only, "only", nil, "hosts that have it, by name or ID, separated by commas (default: all)")
	return cmd
}

// mapOf reads KEY=VALUE; a KEY alone has no value.
func mapOf(pairs []string) map[string]string {
	m := map[string]string{}
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		m[key] = value
	}
	return m
}

// poolsOf puts ranges and gateways to their subnets.
func poolsOf(subnets, ranges, gateways []string) ([]engine.Pool, error) {
	var pools []engine.Pool
	for _, text := range subnets {
		if _, err := netip.ParsePrefix(text); err != nil {
			return nil, fmt.Errorf("--subnet %q: want one such as 10.20.0.0/16", text)
		}
		pools = append(pools, engine.Pool{Subnet: text})
	}
	put := func(flag, text string, addr netip.Addr, err error, field func(*engine.Pool) *string) error {
		at := slices.IndexFunc(pools, func(p engine.Pool) bool { return err == nil && netip.MustParsePrefix(p.Subnet).Contains(addr) })
		if at < 0 {
			return fmt.Errorf("--%s %q: want one within a --subnet", flag, text)
		}
		to := field(&pools[at])
		if *to != "" {
			return fmt.Errorf("--%s %q: subnet %s has %s already", flag, text, pools[at].Subnet, *to)
		}
		*to = text
		return nil
	}
	var errs []error
	for _, text := range ranges {
		part, err := netip.ParsePrefix(text)
		errs = append(errs, put("ip-range", text, part.Addr(), err, func(p *engine.Pool) *string { return &p.IPRange }))
	}
	for _, text := range gateways {
		addr, err := netip.ParseAddr(text)
		errs = append(errs, put("gateway", text, addr, err, func(p *engine.Pool) *string { return &p.Gateway }))
	}
	return pools, errors.Join(errs...)
}

func networkRemoveCommand(f *controlFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME",
		Short: "Remove a network from all hosts, from each once no container uses it there",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeNetwork(cmd, f, "networks/remove", networkWish{Name: args[0]}, "is gone from")
		},
	}
}

// changeNetwork has the daemon do something, and tells of the hosts that are not so far.
func changeNetwork(cmd *cobra.Command, f *controlFlags, what string, wish networkWish, done string) error {
	body, err := json.Marshal(wish)
	if err != nil {
		return err
	}
	text, err := exchange(cmd.Context(), f.socket, http.MethodPost, what, bytes.NewReader(body))
	if err != nil {
		return err
	}
	var n networks.Network
	if err := json.Unmarshal(text, &n); err != nil {
		return fmt.Errorf("the daemon on %s gave an answer that this version does not understand: %w", f.socket, err)
	}
	out := cmd.OutOrStdout()
	left := slices.DeleteFunc(slices.Clone(n.Hosts), func(s networks.HostState) bool { return s.Reason == "" })
	if len(left) == 0 {
		_, err := fmt.Fprintf(out, "network %s %s all of its hosts\n", wish.Name, done)
		return err
	}
	fmt.Fprintf(out, "network %s %s all of its hosts but these, which go on trying:\n", wish.Name, done)
	return writeHosts(out, left)
}

func networkListCommand(f *controlFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the networks that are everywhere, and how many hosts have each",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return show(cmd, f, "networks", writeNetworks) },
	}
	f.addOutput(cmd)
	return cmd
}

func writeNetworks(out io.Writer, all []networks.Network) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row(w, "NETWORK", "SUBNETS", "MADE ON", "HOSTS", "NOT AS DEFINED")
	for _, n := range all {
		have, left := 0, []string{}
		for _, s := range n.Hosts {
			if s.Present {
				have++
			}
			if s.Reason != "" {
				left = append(left, s.Host)
			}
		}
		madeOn := n.Host
		if n.Removed {
			madeOn = "(removed)"
		}
		row(w, n.Name, subnetsOf(n.Network()), madeOn, have, strings.Join(left, " "))
	}
	return w.Flush()
}

func subnetsOf(spec engine.Spec) string {
	var all []string
	for _, p := range spec.IPAM.Config {
		all = append(all, p.Subnet)
	}
	return strings.Join(all, " ")
}

func networkInspectCommand(f *controlFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect NAME",
		Short: "Show how a network is defined, and how each host has it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return show(cmd, f, "networks?"+url.Values{"name": {args[0]}}.Encode(), writeDefinitions)
		},
	}
	f.addOutput(cmd)
	return cmd
}

func writeDefinitions(out io.Writer, all []networks.Network) error {
	for _, n := range all {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		row(w, "network", n.Name)
		if n.Removed {
			row(w, "removed on", n.Host)
		} else {
			spec := n.Network()
			row(w, "made on", n.Host)
			row(w, "subnets", subnetsOf(spec))
			row(w, "addresses by", spec.IPAM.Driver)
			row(w, "IPv6", yesNo(spec.EnableIPv6))
			row(w, "internal", yesNo(spec.Internal))
			row(w, "options", pairs(spec.Options))
			row(w, "labels", pairs(spec.Labels))
			row(w, "hosts", cmp.Or(strings.Join(n.Only, " "), "all"))
		}
		fmt.Fprintln(w)
		if err := w.Flush(); err != nil {
			return err
		}
		if err := writeHosts(out, n.Hosts); err != nil {
			return err
		}
	}
	return nil
}

func writeHosts(out io.Writer, hosts []networks.HostState) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row(w, "HOST", "HAS IT", "NOT AS DEFINED, BECAUSE")
	for _, s := range hosts {
		row(w, s.Host, yesNo(s.Present), s.Reason)
	}
	return w.Flush()
}

// listNetworks tells of all networks that are everywhere, or of one.
func (c *control) listNetworks(w http.ResponseWriter, r *http.Request) {
	if c.ready(w) == nil {
		return
	}
	name := r.FormValue("name")
	all := c.networks.Load().List(r.Context(), name)
	if name != "" && len(all) == 0 {
		http.Error(w, fmt.Sprintf("network %s: %v: `overlane network ls` lists them", name, networks.ErrUnknown), http.StatusNotFound)
		return
	}
	answer(w, all)
}

func (c *control) createNetwork(w http.ResponseWriter, r *http.Request) {
	c.changeNetwork(w, r, func(m *networks.Manager, wish networkWish) (*networks.Definition, error) {
		return m.Create(wish.Name, wish.Only, wish.Spec)
	})
}

func (c *control) removeNetwork(w http.ResponseWriter, r *http.Request) {
	c.changeNetwork(w, r, func(m *networks.Manager, wish networkWish) (*networks.Definition, error) { return m.Remove(wish.Name) })
}

// changeNetwork defines a network, and answers how the hosts have it when all do as is defined, or after a while.
func (c *control) changeNetwork(w http.ResponseWriter, r *http.Request, define func(*networks.Manager, networkWish) (*networks.Definition, error)) {
	if c.ready(w) == nil {
		return
	}
	var wish networkWish
	if err := json.NewDecoder(r.Body).Decode(&wish); err != nil {
		http.Error(w, fmt.Sprintf("the command is of another version than the daemon: %v", err), http.StatusBadRequest)
		return
	}
	m := c.networks.Load()
	d, err := define(m, wish)
	var n networks.Network
	if err == nil {
		n, err = m.Settle(r.Context(), d)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	answer(w, n)
}
