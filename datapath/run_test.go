package datapath_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// run runs a command in a namespace and returns what it printed.
func run(t testing.TB, ns, command string) string {
	t.Helper()
	out, err := exec.Command("ip", "netns", "exec", ns, "sh", "-c", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %s: %v\n%s", ns, command, err, out)
	}
	return strings.TrimSpace(string(out))
}

// process is a command that goes on by itself; it is ended with the test at the latest.
type process struct {
	*exec.Cmd
	output *output
}

type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func start(t testing.TB, ns string, command ...string) process {
	t.Helper()
	p := process{exec.Command("ip", append([]string{"netns", "exec", ns}, command...)...), &output{}}
	p.Stdout, p.Stderr = p.output, p.output
	must(t, p.Start())
	t.Cleanup(func() { p.Process.Kill(); p.Wait() })
	return p
}

func waitOutput(t testing.TB, p process, text string) {
	t.Helper()
	waitFor(t, fmt.Sprintf("%q from %s", text, p), func() bool { return strings.Contains(p.output.String(), text) })
}

func waitListening(t testing.TB, ns string, port int) {
	t.Helper()
	waitFor(t, fmt.Sprintf("a listener on %d", port), func() bool {
		return run(t, ns, fmt.Sprintf("ss -Hltn sport = :%d", port)) != ""
	})
}

// waitFor asks until it is so, for a minute at most.
func waitFor(t testing.TB, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s; %v, %+v", what, plane.Stats().Drops, plane.Stats().Device)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// inNamespace calls f on a thread of the namespace: what sockets it opens belong there.
func inNamespace(t testing.TB, name string, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		ns, err := netns.GetFromName(name)
		if err == nil {
			err = netns.Set(ns)
			ns.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	must(t, <-done)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
