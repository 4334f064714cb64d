//go:build soak

package datapath_test

import (
	"bufio"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// linuxGuest is a kernel of Debian's user-mode-linux on this machine's files: it has what this machine's may lack.
type linuxGuest struct {
	console io.Writer
	lines   *bufio.Scanner
}

const linuxMAC = "02:00:00:09:02:03" // of its card

// bootLinux starts one, whose card is the device of a namespace.
func bootLinux(t *testing.T, ns, device string) *linuxGuest {
	t.Helper()
	init, err := filepath.Abs("testdata/guest")
	must(t, err)
	guest := exec.Command("ip", "netns", "exec", ns, "linux.uml", "mem=256M", "quiet", "con=null", "con0=fd:0,fd:1",
		"root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "init="+init, "vec0:transport=raw,ifname="+device+",depth=128,mac="+linuxMAC)
	guest.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	console, err := guest.StdinPipe()
	must(t, err)
	output, err := guest.StdoutPipe()
	must(t, err)
	must(t, guest.Start())
	t.Cleanup(func() {
		io.WriteString(console, "poweroff\n")
		late := time.AfterFunc(10*time.Second, func() { syscall.Kill(-guest.Process.Pid, syscall.SIGKILL) })
		guest.Wait()
		late.Stop()
	})
	g := &linuxGuest{console, bufio.NewScanner(output)}
	g.until(t, "its start", "READY")
	return g
}

// run runs a command in it and returns what it printed.
func (g *linuxGuest) run(t *testing.T, command string) string {
	t.Helper()
	_, err := io.WriteString(g.console, command+"\n")
	must(t, err)
	out, status := g.until(t, command, "DONE ")
	if status != "0" {
		t.Fatalf("guest: %s: exit status %s\n%s", command, status, out)
	}
	return out
}

// until reads on to the line that begins so, and returns what came before and the rest of the line.
func (g *linuxGuest) until(t *testing.T, what, prefix string) (before, rest string) {
	t.Helper()
	var out []string
	for g.lines.Scan() {
		if rest, found := strings.CutPrefix(g.lines.Text(), prefix); found {
			return strings.Join(out, "\n"), rest
		}
		out = append(out, g.lines.Text())
	}
	t.Fatalf("guest: %s: it ended: %v\n%s", what, g.lines.Err(), strings.Join(out, "\n"))
	return "", ""
}
