//go:build lab

package lab

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ciTimeout bounds a run of the example: the start of its hosts, and two rounds of checks.
const ciTimeout = 5 * time.Minute

// ciImage is what the example of a CI job tests: this machine's engine has it, the hosts' don't.
const ciImage = "lab-testci"

// The example of a CI job ends with the exit status of the check, whichever host it fails on and whether before or after a
// host's death.
func TestCI(t *testing.T) {
	t.Parallel()
	_, err := run(exec.CommandContext(t.Context(), "sh", "-ec", `docker run --rm --entrypoint cat overlane/host:`+cmp.Or(platforms[0], "latest")+` /usr/local/share/box.tar |
		docker import --change 'CMD ["sh", "-c", "echo $(hostname) serves; exec serve"]' - `+ciImage))
	must(t, err)
	t.Cleanup(func() {
		_, err := docker(context.WithoutCancel(t.Context()), "rmi", ciImage)
		must(t, err)
	})
	const reach = `for node in $NODES; do
		echo $(hostname) reaches $(curl -sS --fail --retry 9 --retry-delay 1 --retry-all-errors http://$node/)
	done
	`
	reached := strings.Join([]string{
		"node1 reaches node1", "node1 reaches node2", "node1 reaches node3",
		"node2 reaches node1", "node2 reaches node2", "node2 reaches node3",
		"node3 reaches node1", "node3 reaches node2", "node3 reaches node3",
		"node1 reaches node1", "node1 reaches node2",
		"node2 reaches node1", "node2 reaches node2",
	}, "\n")
	tests := []ciTest{
		{"FailsWithoutHost", reach + `case $(hostname)$NODES in node2*node3) ;; node2*) echo $NODES are too few; exit 8; esac`, reached + "\nnode1 node2 are too few", 8},
		{"FailsOnOneNode", `[ $(hostname) != node2 ] || { echo $(hostname) fails; exit 7; }`, "node2 fails", 7},
		{"Passes", reach, reached, 0},
	}
	if !long {
		tests = tests[:1]
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			said, logs, status := ci(t, tt.check)
			if said != tt.said || status != tt.status {
				t.Errorf("the checks end with %d and say\n%s\nwant %d and\n%s", status, said, tt.status, tt.said)
			}
			for _, node := range []string{"node1", "node2", "node3"} {
				if log := read(t, filepath.Join(logs, node, "app.log")); log != node+" serves\n" {
					t.Errorf("the log of %s is %q", node, log)
				}
				if log := read(t, filepath.Join(logs, node, "overlane.log")); !strings.Contains(log, `msg="endpoint joined"`) {
					t.Errorf("the log of overlane beside %s lacks an endpoint:\n%s", node, log)
				}
				read(t, filepath.Join(logs, node, "dockerd.log"))
			}
		})
	}
}

// ciTest is a check, what it must say on all hosts together, and the exit status that must come of it.
type ciTest struct {
	name, check, said string
	status            int
}

// ci runs the example with a check, and demands that nothing of its hosts is left. It gives what the check said, the directory
// with the logs, and the exit status.
func ci(t *testing.T, check string) (said, logs string, status int) {
	t.Helper()
	c := &Cluster{opts: Options{Name: "lab-" + strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-"))}}
	logs = filepath.Join(t.TempDir(), "logs")
	unused := volumes(t)
	t.Cleanup(func() {
		if t.Failed() {
			must(t, c.Down(lasting(t)))
		}
	})
	cmd := exec.CommandContext(t.Context(), "../../contrib/compose/ci", ciImage, "sh", "-ec", check)
	cmd.Env = append(os.Environ(), "COMPOSE_PROJECT_NAME="+c.opts.Name, "WIRE_SUBNET6="+c.wireSubnet6(), "LOGS="+logs, "HOST_PLATFORM="+platforms[0])
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, t.Output()
	err := runGroup(ciTimeout, cmd)
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || !exit.Exited() {
		must(t, err)
	}
	for _, kind := range []string{"container ls --all", "network ls", "volume ls"} {
		args := append(strings.Fields(kind), "--quiet", "--filter", "label=com.docker.compose.project="+c.opts.Name)
		left, err := docker(t.Context(), args...)
		must(t, err)
		if left != "" {
			t.Errorf("docker %s: %s is left", kind, left)
		}
	}
	// The hosts' engines have volumes without a name, and so without a label.
	eventually(t, "no volumes are left", settleTimeout, func() error {
		for volume := range volumes(t) {
			if !unused[volume] {
				return fmt.Errorf("volume %s is left", volume)
			}
		}
		return nil
	})
	return strings.TrimSpace(out.String()), logs, cmd.ProcessState.ExitCode()
}

// volumes are those that no container uses.
func volumes(t *testing.T) map[string]bool {
	t.Helper()
	out, err := docker(t.Context(), "volume", "ls", "--quiet", "--filter", "dangling=true")
	must(t, err)
	unused := map[string]bool{}
	for _, volume := range strings.Fields(out) {
		unused[volume] = true
	}
	return unused
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	return string(text)
}
