package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/internal/testns"
)

// A daemon that comes before the network serves its sockets, says what it waits for, and goes on by itself.
func TestDefaultRouteComesLate(t *testing.T) {
	testns.Enter(t)
	testns.Run(t, "ip link add wire type veth peer name far", "ip link set wire up", "ip link set far up")
	namespace := fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
	cmd := daemonCommand()
	s, err := readSettings(cmd.Flags(), daemonSettings)
	if err != nil {
		t.Fatal(err)
	}
	come := []string{"ip addr add 192.0.2.1/24 dev wire && ip route add default via 192.0.2.254"}
	var said []string
	err = s.awaitAddress(t.Context(), func(err error) {
		said = append(said, fmt.Sprint(err))
		if len(come) > 0 {
			go exec.Command("nsenter", "--net="+namespace, "sh", "-c", come[0]).Run()
			come = nil
		}
	})
	if err != nil || s.vtep().String() != "192.0.2.1" {
		t.Errorf("address %s, %v", s.vtep(), err)
	}
	if len(said) != 2 || !strings.Contains(said[0], "--advertise") || !strings.Contains(said[0], "no default route") || said[1] != "<nil>" {
		t.Errorf("it waits for %q", said)
	}
}

// The commands say what the daemon waits for, as long as it does.
func TestCommandsWhileTheAddressIsMissing(t *testing.T) {
	testns.Enter(t)
	dir := t.TempDir()
	cmd := daemonCommand()
	if err := cmd.ParseFlags([]string{"--plugin-socket", filepath.Join(dir, "plugin.sock"), "--control-socket", filepath.Join(dir, "control.sock")}); err != nil {
		t.Fatal(err)
	}
	s, err := readSettings(cmd.Flags(), daemonSettings)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		defer stop()
		within(t, "status says it", func() bool {
			_, err := command("status", "--control-socket", s.controlSocket)
			return err != nil && strings.Contains(err.Error(), "waits for this host's address") && strings.Contains(err.Error(), "no default route")
		})
	}()
	if err := run(ctx, s, quiet()); err != nil {
		t.Error(err)
	}
}
