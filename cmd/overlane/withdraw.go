package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func withdrawCommand() *cobra.Command {
	f := new(controlFlags)
	var down bool
	cmd := &cobra.Command{
		Use:   "withdraw NODE...",
		Short: "Take the endpoints of hosts that are down out of use on this host, by name or ID",
		Long: "Take the endpoints of hosts that are down out of use on this host, by name or ID. A host that loses many others at once goes on using\n" +
			"their endpoints, since it may be the one that is cut off: this is your word that it is not. What ran there can be started here then.\n" +
			"A host that is back is in use again.",
		Args: func(_ *cobra.Command, args []string) error { return hostsOrDown(args, down) },
		RunE: func(cmd *cobra.Command, args []string) error {
			return post(cmd, f, "withdraw", named(args, down))
		},
	}
	cmd.Flags().BoolVar(&down, "down", false, "all hosts that are down, in place of NODE...")
	f.addSocket(cmd)
	return cmd
}

// hostsOrDown checks that either hosts or all that are down are named. An empty name may come of a script's unset variable.
func hostsOrDown(hosts []string, down bool) error {
	if down == (len(hosts) > 0) || slices.Contains(hosts, "") {
		return errors.New("want the names or IDs of hosts, or --down for all that are down")
	}
	return nil
}

// allDown stands for all hosts that are down, on the way to the daemon.
const allDown = "--down"

// named is the argument of a command that names hosts, a line each.
func named(hosts []string, down bool) string {
	if down {
		return allDown
	}
	return strings.Join(hosts, "\n")
}

// hostsOf reads the hosts that a command names; none: those that are down. False: it names neither, and has its answer.
func hostsOf(w http.ResponseWriter, r *http.Request) ([]string, bool) {
	text, err := io.ReadAll(io.LimitReader(r.Body, maxArgument))
	if err != nil {
		return nil, false // the client went away
	}
	if string(text) == allDown {
		return nil, true
	}
	hosts := strings.Split(string(text), "\n")
	if err := hostsOrDown(hosts, false); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil, false
	}
	return hosts, true
}

func (c *control) withdraw(w http.ResponseWriter, r *http.Request) {
	o := c.ready(w)
	if o == nil {
		return
	}
	hosts, ok := hostsOf(w, r)
	if !ok {
		return
	}
	names, err := o.Withdraw(hosts)
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusConflict)
	case len(names) == 0:
		io.WriteString(w, "no host is down\n")
	default:
		fmt.Fprintf(w, "what ran on %s can be started on this host\n", strings.Join(names, ", "))
	}
}
