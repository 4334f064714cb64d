package main

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
)

// How long the cluster gets to hear that this host leaves.
const leaveTimeout = 5 * time.Second

// errLeave is why a daemon ends whose host goes for good.
var errLeave = errors.New("this host leaves for good")

// leaves says whether the others are to take this host for gone. One with a container on a network is to be back, unless the whole
// host stops: of one without nothing can be cut.
func (n *node) leaves(cause error) bool {
	return cause == errLeave || !n.overlay.Joined() || hostShutsDown()
}

// stop ends what was started. One that leaves takes back all that it announced. Else the others take it for one that has
// crashed, and go on using its records for some seconds: an upgrade or a restart cuts no connection of its containers.
func (n *node) stop(leaves bool, log logrus.FieldLogger) error {
	if leaves {
		if err := n.cluster.Leave(leaveTimeout); err != nil {
			log.WithError(err).Warn("not every host may have heard that this one leaves")
		}
	}
	return n.close()
}

// close ends each part before those that it uses. The containers' taps stay, for the next start.
func (n *node) close() error {
	var errs []error
	if w := n.engine.Load(); w != nil {
		w.Close()
	}
	if n.tests != nil {
		n.tests.Close()
	}
	if n.networks != nil {
		n.networks.Close()
	}
	if n.overlay != nil {
		errs = append(errs, n.overlay.Close())
	}
	if n.names != nil {
		errs = append(errs, n.names.Close())
	}
	if n.cluster != nil {
		errs = append(errs, n.cluster.Close())
	}
	if n.datapath != nil {
		errs = append(errs, n.datapath.Close())
	}
	return errors.Join(errs...)
}

// How long systemd may take to answer.
const systemdTimeout = 2 * time.Second

// hostShutsDown says whether the whole host stops, as systemd has it. Where there is none to ask, the daemon alone does.
func hostShutsDown() bool {
	ctx, cancel := context.WithTimeout(context.Background(), systemdTimeout)
	defer cancel()
	state, _ := exec.CommandContext(ctx, "systemctl", "is-system-running").Output() // its status is 1 for most states
	return strings.TrimSpace(string(state)) == "stopping"
}
