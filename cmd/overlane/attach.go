package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/overlane/overlane/hostnet"
	"github.com/overlane/overlane/overlay"
)

func attachCommand() *cobra.Command {
	f := new(controlFlags)
	var spec overlay.AttachSpec
	cmd := &cobra.Command{
		Use:   "attach [NETWORK]",
		Short: "Give this host itself an interface on a network; without NETWORK show those that it has",
		Long: "Give this host itself an interface on a network: it reaches the containers there, and they reach it, by address and by name. The host\n" +
			"needs no Docker. NETWORK is what Docker calls the network on this host, its ID, or its key, as `overlane status` shows it:\n" +
			"subnet=10.20.0.0/16, network=app or vni=5000. The attachment is there until `overlane detach`, also after a restart. Without NETWORK\n" +
			"the attachments of this host are shown.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				if cmd.Flags().Changed("address") || cmd.Flags().Changed("name") || spec.Encrypted {
					return errors.New("--address, --name and --encrypted are for an attachment: give NETWORK")
				}
				return show(cmd, f, "attachments", writeAttachments)
			}
			spec.Network = args[0]
			return attach(cmd, f, spec)
		},
	}
	cmd.Flags().StringSliceVar(&spec.Addrs, "address", nil, "address of this host on the network, with or without its subnet's prefix length; one of IPv4 and one of IPv6 (default: one that overlane hands out)")
	cmd.Flags().StringVar(&spec.Name, "name", "", "name by which containers find this host (default: the host's)")
	cmd.Flags().BoolVar(&spec.Encrypted, "encrypted", false, "the network is encrypted: it is not joined in plain, even where no other host is known to have it")
	f.addOutput(cmd)
	f.addSocket(cmd)
	return cmd
}

// attach asks the daemon for an attachment.
func attach(cmd *cobra.Command, f *controlFlags, spec overlay.AttachSpec) error {
	if err := f.checkOutput(); err != nil {
		return err
	}
	wish, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	said, err := exchange(cmd.Context(), f.socket, http.MethodPost, "attach", bytes.NewReader(wish))
	if err != nil {
		return err
	}
	var made overlay.Attachment
	if err := json.Unmarshal(said, &made); err != nil {
		return fmt.Errorf("the daemon on %s gave an answer that this version does not understand: %w", f.socket, err)
	}
	return write(cmd.OutOrStdout(), f, []overlay.Attachment{made}, writeAttachments)
}

func detachCommand() *cobra.Command {
	f := new(controlFlags)
	var all, left bool
	cmd := &cobra.Command{
		Use:   "detach NETWORK",
		Short: "Take this host itself off a network again",
		Long: "Take this host itself off a network again: the interface goes, its address is given back, and the names of the network's containers are\n" +
			"taken out of /etc/hosts. NETWORK is as with `overlane attach`, or the interface. --left is for when overlane is removed: it takes away\n" +
			"what a daemon that does not run has left of attachments on this host. They are back when a daemon starts.",
		Args: func(_ *cobra.Command, args []string) error {
			ways := len(args)
			for _, flag := range []bool{all, left} {
				if flag {
					ways++
				}
			}
			if ways != 1 {
				return errors.New("want one NETWORK, --all or --left")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case left:
				return detachLeft(f)
			case all:
				return post(cmd, f, "detach", allAttached)
			}
			return post(cmd, f, "detach", args[0])
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all networks that this host is attached to, in place of NETWORK")
	cmd.Flags().BoolVar(&left, "left", false, "what a daemon that does not run has left, in place of NETWORK")
	f.addSocket(cmd)
	return cmd
}

// allAttached stands for all networks, on the way to the daemon.
const allAttached = "--all"

// detachLeft does without a daemon.
func detachLeft(f *controlFlags) error {
	if _, err := daemonOf(f.socket); err == nil {
		return fmt.Errorf("--left: a daemon answers on %s, and would set it up again: stop it first, or give --all", f.socket)
	}
	return new(hostnet.Host).Clean()
}

func writeAttachments(out io.Writer, all []overlay.Attachment) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row(w, "ATTACHED TO", "KEY", "INTERFACE", "ADDRESSES", "MAC", "NAMES", "WITH HOSTS", "LACKS")
	for _, a := range all {
		row(w, a.Called, a.Network, a.Interface, list(a.Addrs), a.MAC, strings.Join(strings.Fields(a.Names), ","), list(a.Hosts), a.Lacks)
	}
	return w.Flush()
}

func (c *control) attachments(w http.ResponseWriter, _ *http.Request) {
	if o := c.ready(w); o != nil {
		answer(w, o.Attachments())
	}
}

func (c *control) attach(w http.ResponseWriter, r *http.Request) {
	o := c.ready(w)
	if o == nil {
		return
	}
	var spec overlay.AttachSpec
	if err := json.NewDecoder(io.LimitReader(r.Body, maxArgument)).Decode(&spec); err != nil {
		http.Error(w, fmt.Sprintf("what to attach to is not understood: %v", err), http.StatusBadRequest)
		return
	}
	made, err := o.AttachHost(spec)
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	answer(w, made)
}

func (c *control) detach(w http.ResponseWriter, r *http.Request) {
	o := c.ready(w)
	if o == nil {
		return
	}
	text, err := io.ReadAll(io.LimitReader(r.Body, maxArgument))
	if err != nil {
		return // the client went away
	}
	var gone []overlay.Attachment
	if string(text) == allAttached {
		gone, err = o.DetachAll()
	} else {
		gone = make([]overlay.Attachment, 1)
		gone[0], err = o.DetachHost(string(text))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	for _, a := range gone {
		fmt.Fprintf(w, "this host is off network %s: interface %s is gone, and %s given back\n", a.Network, a.Interface, list(a.Addrs))
	}
	if len(gone) == 0 {
		io.WriteString(w, "this host is attached to no network\n")
	}
}
