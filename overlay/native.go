package overlay

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/overlane/overlane/datapath"
)

// Native is where the program of a container with a native port makes its socket, as it is stored.
type Native struct {
	Kind   string `json:"kind,omitempty"` // of port; empty: vhost-user, which once was the only one
	Socket string `json:"socket"`         // name of the directory
	UID    int    `json:"uid"`            // its owner
	GID    int    `json:"gid"`
}

// native is the wish for a port that is no tap; nil: for a tap.
func (opts options) native() (*Native, error) {
	if opts.port == "" || opts.port == datapath.KindTap {
		for name, value := range map[string]string{OptionSocket: opts.socket, OptionOwner: opts.owner} {
			if value != "" {
				return nil, endpointOptions.bad(name, value, "is for %s=%s and %s=%s alone", OptionPort, datapath.KindVhost, OptionPort, datapath.KindMemif)
			}
		}
		return nil, nil
	}
	n := &Native{Kind: opts.port, Socket: opts.socket}
	if opts.owner != "" {
		var err error
		if n.UID, n.GID, err = parseOwner(opts.owner); err != nil {
			return nil, endpointOptions.bad(OptionOwner, opts.owner, "want UID or UID:GID, as numbers")
		}
	}
	if err := n.config().Check(); err != nil {
		return nil, fmt.Errorf("driver-opt %s=%s: %w: give %s=NAME and mount the directory NAME, see docs/native-ports.md", OptionPort, opts.port, err, OptionSocket)
	}
	return n, nil
}

// parseOwner reads a user, and a group of the same number unless one is given.
func parseOwner(text string) (uid, gid int, err error) {
	user, group, both := strings.Cut(text, ":")
	if uid, err = strconv.Atoi(user); err != nil || !both {
		return uid, uid, err
	}
	gid, err = strconv.Atoi(group)
	return uid, gid, err
}

func (n *Native) config() *datapath.Native {
	if n == nil {
		return nil
	}
	return &datapath.Native{Kind: cmp.Or(n.Kind, datapath.KindVhost), Name: n.Socket, UID: n.UID, GID: n.GID}
}
