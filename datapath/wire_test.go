package datapath_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Linux writes 0xffff for 0 into TCP's field too (include/net/checksum.h CSUM_MANGLED_0): the same sum, but not to tshark.
const badChecksum = `(ip.checksum.status == "Bad" || tcp.checksum.status == "Bad" || udp.checksum.status == "Bad" || icmp.checksum.status == "Bad" || icmpv6.checksum.status == "Bad") && !(tcp.checksum == 0xffff && eth.src == ` + peerMAC + `)`

// checkWire looks at the packets themselves, as tshark understands them: offloads of the wire are off at both ends, so that they are
// what a network card would send. Nothing but VXLAN and the neighbour protocols of the underlay, and every checksum right.
// The peer sees both ways: what a device takes on the host, its kernel never sees.
func checkWire(t *testing.T) {
	withoutOffloads(t)
	file := filepath.Join(t.TempDir(), "wire.pcap")
	capture := start(t, peerNS, "tcpdump", "-i", "wire", "-w", file, "-B", "65536", "-Z", "root")
	waitOutput(t, capture, "listening on")
	for _, pair := range pairs {
		run(t, pair.from, "ping -q -c 3 -i 0.05 -s 4000 "+pair.addr)
		iperf(t, pair.from, pair.to, pair.addr, fmt.Sprint("-n ", wireBytes))
		iperf(t, pair.from, pair.to, pair.addr, "-u -l 700 -b 100M -n 1M")
	}
	capture.Process.Signal(syscall.SIGINT)
	capture.Wait()

	// What iperf3's client has written is the figure of -n; at its end some of it is still in the socket's buffer, and is not sent.
	if n := len(tshark(t, file, `vxlan && tcp.checksum.status == "Good"`)); n < len(pairs)*wireBytes/innerMTU/2 {
		t.Errorf("%d TCP packets with a verified checksum on the wire: the capture is not what was sent", n)
	}
	bad := []string{
		badChecksum,
		`_ws.malformed`,
		`!vxlan && !arp && !icmpv6`,
		`vxlan && (vxlan.vni != 4200 || !(vxlan[0:4] == 08:00:00:00) || !(vxlan[7:1] == 00))`,
		`vxlan && eth.src == ` + hostMAC + ` && udp.port == 4789 && !(udp.srcport >= 49152)`,
	}
	if found := tshark(t, file, "("+strings.Join(bad, ") || (")+")"); len(found) > 0 {
		t.Errorf("%d packets match one of %q, the first: %s", len(found), bad, found[0])
	}
}

// withoutOffloads has both ends of the wire cut up and sum themselves what they would leave to a card.
func withoutOffloads(t *testing.T) {
	t.Helper()
	for _, ns := range []string{hostNS, peerNS} {
		before := run(t, ns, "ethtool -k wire")
		run(t, ns, "ethtool -K wire tx off tso off gso off gro off")
		t.Cleanup(func() {
			run(t, ns, "ethtool -K wire tx on tso on gso on")
			if strings.Contains(before, "generic-receive-offload: on") {
				run(t, ns, "ethtool -K wire gro on")
			}
		})
	}
}

func iperf(t *testing.T, from, to, addr, options string) {
	t.Helper()
	server := start(t, to, "iperf3", "-s", "-1", "-B", addr, "-p", "7002")
	waitListening(t, to, 7002)
	run(t, from, "iperf3 -c "+addr+" -p 7002 "+options)
	server.Wait()
}

// tshark lists the packets that match, with every checksum verified. iperf3's payload is data: else the client's port, which
// the kernel chooses, may be that of a protocol tshark knows (37008 is TZSP's), and its bytes are malformed for that.
func tshark(t *testing.T, file, filter string, options ...string) []string {
	t.Helper()
	out, err := exec.Command("tshark", append([]string{"-n", "-r", file, "-Y", filter, "-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE",
		"-o", "udp.check_checksum:TRUE", "-o", "ip.defragment:FALSE", "-o", "tcp.desegment_tcp_streams:FALSE",
		"-d", "tcp.port==7002,data", "-d", "udp.port==7002,data"}, options...)...).Output()
	if err != nil {
		t.Fatalf("tshark -Y %q: %v: %s", filter, err, err.(*exec.ExitError).Stderr)
	}
	if text := strings.TrimSpace(string(out)); text != "" {
		return strings.Split(text, "\n")
	}
	return nil
}
