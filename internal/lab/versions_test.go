//go:build lab

package lab

import (
	"path/filepath"
	"testing"
)

// previousBinary is what contrib/release/previous builds.
const previousBinary = "../../bin/previous/overlane"

// A host of the last release and hosts of this tree are one cluster: containers reach each other by address and name. Then that host is
// upgraded, and its containers go on.
func TestNeighbouringVersions(t *testing.T) {
	c := cluster(t)
	earlier, tree := c.Hosts[0], c.Hosts[1]
	binary, err := filepath.Abs(previousBinary)
	must(t, err)
	restartWith(t, c.Hosts[:1], func(h *Host) string {
		shell(t, h, "mv /usr/local/bin/overlane /usr/local/bin/overlane.tree")
		putBack(t, func() {
			shell(t, h, "[ ! -e /usr/local/bin/overlane.tree ] || mv /usr/local/bin/overlane.tree /usr/local/bin/overlane")
		})
		_, err := docker(t.Context(), "cp", binary, h.Name+":/usr/local/bin/overlane")
		must(t, err)
		return "overlane version"
	})
	acquainted(t, c)
	t.Logf("%s beside %s", shell(t, earlier, "overlane version"), shell(t, tree, "overlane version"))

	network(t, c.Hosts[:2], "app", 20)
	red, redAt := start(t, earlier, "red", "app", "--dns", "127.0.0.1")
	blue, blueAt := start(t, tree, "blue", "app", "--dns", "127.0.0.1")
	together := func() {
		t.Helper()
		reach(t, red, blueAt.IPAddress, blueAt.GlobalIPv6Address)
		reach(t, blue, redAt.IPAddress, redAt.GlobalIPv6Address)
		called(t, red, "blue", blueAt.IPAddress)
		called(t, blue, "red", redAt.IPAddress)
	}
	together()

	// As a package does it: the daemon dies, and the next one takes the containers back.
	shell(t, earlier, "mv /usr/local/bin/overlane.tree /usr/local/bin/overlane; kill $(cat /run/overlane.pid); "+ends+"$(cat /run/overlane.pid); start-overlane")
	ready(t, c.Hosts[:1])
	together()
}
