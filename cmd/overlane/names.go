package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/overlane/overlane/names"
	"github.com/overlane/overlane/overlay"
)

// openNames starts what answers containers' queries. Where the kernel can't, all else works.
func (n *node) openNames(table *names.Table, log logrus.FieldLogger) overlay.Names {
	err := names.Try()
	if err == nil {
		n.names, err = names.NewServer(table, log)
	}
	if err != nil {
		log.WithError(err).Warn("containers find those of other hosts by address alone")
		return names.Off{Reason: err.Error()}
	}
	return n.names
}

// engineError says why the engine does not tell what containers are called.
func (n *node) engineError(s settings) error {
	w := n.engine.Load()
	switch {
	case s.dockerSocket == "":
		return errors.New("--docker-socket (OVERLANE_DOCKER_SOCKET) is none")
	case w == nil:
		return errors.New("overlane starts")
	}
	return w.Err()
}

func resolveCommand() *cobra.Command {
	f := new(controlFlags)
	var network string
	cmd := &cobra.Command{
		Use:   "resolve NAME",
		Short: "Show which containers a name or an address leads to on this host's networks, and why",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{"name": {args[0]}, "network": {network}}
			return show(cmd, f, "resolve?"+query.Encode(), func(out io.Writer, found []overlay.Resolution) error {
				return writeResolutions(out, args[0], found)
			})
		},
	}
	cmd.Flags().StringVarP(&network, "network", "n", "", "the network to look in, by name, key or ID (default: all of this host)")
	f.addOutput(cmd)
	f.addSocket(cmd)
	return cmd
}

func writeResolutions(out io.Writer, name string, found []overlay.Resolution) error {
	if len(found) == 0 {
		_, err := fmt.Fprintf(out, "no container on this host's networks is called %s, as far as overlane knows: Docker's server is asked, and by it this host's resolvers. If one is, the line `names` of `overlane status` on its host says why\n", name)
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row(w, "CONTAINER", "NETWORK", "KEY", "ADDRESSES", "HOST", "ANSWERED", "BECAUSE")
	for _, r := range found {
		row(w, called(r.Name, r.Endpoint), r.Called, r.Network, list(r.Addrs), r.Host, yesNo(r.Answers), r.Reason)
	}
	return w.Flush()
}

func (c *control) resolve(w http.ResponseWriter, r *http.Request) {
	o := c.ready(w)
	if o == nil {
		return
	}
	found, err := o.Resolve(r.FormValue("name"), r.FormValue("network"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	answer(w, found)
}
