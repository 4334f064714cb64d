//go:build page

package page_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/overlane/overlane/internal/page"
	"github.com/overlane/overlane/internal/page/simulated"
	"github.com/overlane/overlane/internal/testns"
)

const root = "../.."

// daemon is a host of its own: bin/overlane in namespaces.
type daemon struct {
	cmd     *exec.Cmd
	host    string
	addr    string // on the wire
	control string // its socket
}

// TestPageInBrowser has a browser without a way to the internet click through all views, of three hosts whose daemons run and of made-up
// clusters of one host and of a hundred. contrib/page/look.mjs says what it looks at.
func TestPageInBrowser(t *testing.T) {
	testns.Enter(t)
	// Chromium breaks off what it loads when an address comes or goes (ERR_NETWORK_CHANGED). Without IPv6 none does: link-local ones come
	// a second or two after their interface, and go with a host.
	testns.Run(t, "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6")
	testns.Run(t, "ip link add wire type bridge", "ip link set wire up", "ip addr add 192.0.2.254/24 dev wire")
	dir := t.TempDir()
	said, err := exec.Command(root+"/bin/overlane", "token", "new").Output()
	if err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(string(said))
	const password = "seen by this test alone"
	if err := os.WriteFile(dir+"/password", []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var hosts []*daemon
	for i, name := range []string{"blue", "green", "red"} {
		hosts = append(hosts, startDaemon(t, dir, name, i, token))
	}
	for i, d := range hosts {
		d.attach(t, fmt.Sprintf("10.20.0.%d/16", i+1))
	}
	waitFor(t, "the hosts reach each other", func() bool { return hosts[0].command("ping", "-c", "1", "-W", "1", "10.20.0.2").Run() == nil })
	hosts[0].inside(t, "ping", "-q", "-i", "0.05", "-s", "1000", "10.20.0.2")
	hosts[0].inside(t, "ping", "-q", "-i", "0.2", "10.20.0.99") // nobody has it: such requests are dropped

	plan := map[string]any{
		"modules":  absolute(t, root+"/bin/page"),
		"shots":    os.Getenv("SHOTS"),
		"password": password,
		"stop":     hosts[2].cmd.Process.Pid,
		"secrets":  []string{token, password},
		"clusters": []map[string]any{
			{"name": "real", "url": "http://" + hosts[0].addr + ":9751", "hosts": 3, "containers": 3, "problems": 0},
			{"name": "simulated", "url": simulate(t, 100), "hosts": 100, "containers": 800, "problems": 2},
			{"name": "alone", "url": simulate(t, 1), "hosts": 1, "containers": 8, "problems": 0},
		},
	}
	text, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	look := exec.CommandContext(t.Context(), "node", root+"/contrib/page/look.mjs")
	look.Stdin, look.Stdout, look.Stderr = bytes.NewReader(text), os.Stdout, os.Stderr
	if err := look.Run(); err != nil {
		t.Fatalf("%s: %v", look, err)
	}
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// simulate serves a made-up cluster.
func simulate(t *testing.T, hosts int) string {
	t.Helper()
	return serve(t, page.Config{Source: simulated.New(hosts).Source(), Host: "host01"})
}

// startDaemon starts a host with an address on the wire.
func startDaemon(t *testing.T, dir, name string, i int, token string) *daemon {
	t.Helper()
	own := filepath.Join(dir, name)
	if err := os.MkdirAll(own, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(own+"/hosts", []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(own + "/log")
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{host: name, addr: fmt.Sprintf("192.0.2.%d", i+1), control: own + "/control.sock"}
	script := fmt.Sprintf("hostname %s; mount --bind %s/hosts /etc/hosts; ip link set lo up; read -r _; exec %s daemon --advertise eth0 --join 192.0.2.1 --token %s --data-dir %s/data --control-socket %s --plugin-socket %s/overlane.sock --docker-socket none --native-dir %s/native --web %s:9751 --web-password-file %s/password",
		name, own, absolute(t, root+"/bin/overlane"), token, own, d.control, own, own, d.addr, dir)
	d.cmd = exec.Command("unshare", "--net", "--mount", "--uts", "sh", "-ec", script)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	ready, err := d.cmd.StdinPipe() // a line says that it has its address
	if err == nil {
		err = d.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.cmd.Process.Kill()
		d.cmd.Wait()
		if said, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("%s:\n%s", name, said)
		}
		log.Close()
	})
	pid := d.cmd.Process.Pid
	waitFor(t, name+" has a network namespace", func() bool {
		here, _ := os.Readlink("/proc/thread-self/ns/net")
		there, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
		return there != "" && here != there
	})
	testns.Run(t, fmt.Sprintf("ip link add port%d master wire up type veth peer name eth0 netns %d", i, pid),
		fmt.Sprintf("nsenter --net --target %d sh -ec 'ip addr add %s/24 dev eth0; ip link set eth0 up'", pid, d.addr))
	if _, err := io.WriteString(ready, "\n"); err != nil {
		t.Fatal(err)
	}
	return d
}

// attach puts the host on the network that all have.
func (d *daemon) attach(t *testing.T, addr string) {
	t.Helper()
	waitFor(t, d.host+" is attached", func() bool {
		return exec.Command(root+"/bin/overlane", "attach", "network=app", "--address", addr, "--control-socket", d.control).Run() == nil
	})
}

// command is one in the host's network.
func (d *daemon) command(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net", "--target", fmt.Sprint(d.cmd.Process.Pid)}, args...)...)
}

// inside runs a command in the host's network until the test ends.
func (d *daemon) inside(t *testing.T, args ...string) {
	t.Helper()
	cmd := d.command(args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}
