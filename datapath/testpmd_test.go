package datapath_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/overlane/overlane/datapath"
)

// DPDK's own testpmd on a port of each kind, in server mode as docs/native-ports.md has it, answers ping; also after it was killed, and
// after overlane's side was.
func TestTestpmd(t *testing.T) {
	dir := filepath.Join(nativeDir, "testpmd")
	for kind, device := range map[string]string{
		datapath.KindVhost: "net_virtio_user0,path=" + dir + "/vhost.sock,server=1,mac=" + guestMAC + ",queue_size=1024",
		datapath.KindMemif: "net_memif0,role=server,socket=" + dir + "/memif.sock,socket-abstract=no,mac=" + guestMAC,
	} {
		t.Run(kind, func(t *testing.T) { testTestpmd(t, kind, device) })
	}
}

func testTestpmd(t *testing.T, kind, device string) {
	beside(t)
	config := datapath.PortConfig{Name: "guest0", Alias: testAlias + "guest0", VNI: vni, MAC: parseMAC(guestMAC), MTU: 1430, Addrs: prefixes([]string{guestIP4}), Native: &datapath.Native{Kind: kind, Name: "testpmd"}}
	var id datapath.PortID
	add := func() {
		t.Helper()
		var err error
		onHost(func() { id, err = plane.AddPort(config) })
		must(t, err)
	}
	add()
	t.Cleanup(func() { onHost(func() { plane.DelPort(id) }) })
	ping := func(when string) {
		t.Helper()
		waitFor(t, "an answer of testpmd "+when, func() bool {
			out, _ := exec.Command("ip", "netns", "exec", containerNS, "ping", "-n", "-c", "1", "-W", "1", "-s", "1000", guestIP4).Output()
			return strings.Contains(string(out), " 1 received")
		})
	}
	testpmd := func() process {
		t.Helper()
		p := start(t, hostNS, "dpdk-testpmd", "--no-huge", "--no-shconf", "-m", "256", "--no-pci", "-l", "0-1", "--no-telemetry", "--vdev="+device,
			"--", "--forward-mode=icmpecho", "--auto-start", "--stats-period=1", "--total-num-mbufs=4096")
		t.Cleanup(func() {
			if t.Failed() {
				t.Log(p.output, p.Process.Signal(syscall.Signal(0)))
			}
		})
		return p
	}
	p := testpmd()
	ping("at first")

	// The datapath's side goes and comes back, as when the daemon is restarted: the socket stays where it is.
	onHost(func() { must(t, plane.DelPort(id)) })
	config.Netns = "/proc/self/ns/net"
	add()
	ping("after the daemon's restart")

	// The program is killed, and its container starts anew.
	must(t, p.Process.Kill())
	p.Wait()
	onHost(func() { must(t, plane.DelPort(id)) })
	config.Netns = ""
	add()
	testpmd()
	ping("after it was killed")
}
