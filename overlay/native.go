package overlay

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/overlane/overlane/datapath"
)

// Native is where the program of a container with a vhost-user port makes its socket, as it is stored.
type Native struct {
	Socket string `json:"socket"` // name of the directory
	UID    int    `json:"uid"`    // its owner
	GID    int    `json:"gid"`
}

// native is the wish for a port that is no tap; nil: for a tap.
func (opts options) native() (*Native, error) {
	if opts.port != datapath.KindVhost {
		for name, value := range map[string]string{OptionSocket: opts.socket, OptionOwner: opts.owner} {
			if value != "" {
				return nil, endpointOptions.bad(name, value, "is for %s=%s alone", OptionPort, datapath.KindVhost)
			}
		}
		return nil, nil
	}
	n := &Native{Socket: opts.socket}
	if opts.owner != "" {
		var err error
		if n.UID, n.GID, err = parseOwner(opts.owner); err != nil {
			return nil, endpointOptions.bad(OptionOwner, opts.owner, "want UID or UID:GID, as numbers")
		}
	}
	if err := n.config().Check(); err != nil {
		return nil, fmt.Errorf("driver-opt %s=%s: %w: give %s=NAME and mount the directory NAME, see docs/native-ports.md", OptionPort, datapath.KindVhost, err, OptionSocket)
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
	return &datapath.Native{Name: n.Socket, UID: n.UID, GID: n.GID}
}
