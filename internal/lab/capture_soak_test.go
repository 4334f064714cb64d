//go:build lab && soak

package lab

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// A million packets of a container under load are in the file, but for those that are counted as lost; tshark reads it without a complaint.
func TestCaptureOfMillion(t *testing.T) {
	const wanted = 1000000
	c := cluster(t)
	hosts := c.Hosts[:2]
	network(t, hosts, "app", 27)
	red, _ := start(t, hosts[0], "red", "app")
	blue, blueAt := start(t, hosts[1], "blue", "app")
	reach(t, red, blueAt.IPAddress)
	shell(t, blue.Host, "nsenter -n -t $(docker inspect -f '{{.State.Pid}}' blue) iperf3 -s -D -p 5201")
	shell(t, red.Host, fmt.Sprintf("nsenter -n -t $(docker inspect -f '{{.State.Pid}}' red) iperf3 -u -b 0 -l 64 -t 600 -c %s -p 5201 >/dev/null 2>&1 & echo $! >/tmp/flood.pid", blueAt.IPAddress))
	before := readFrom(t, red)
	out := shell(t, red.Host, fmt.Sprintf("overlane capture -n app --container red --point read -s 128 -c %d -w /tmp/million.pcapng udp 2>&1", wanted))
	after := readFrom(t, red)
	shell(t, red.Host, "kill $(cat /tmp/flood.pid)")
	t.Log(out)
	var lost int
	if !strings.Contains(out, "none was lost") {
		_, text, _ := strings.Cut(out, "lost for want of room: ")
		fmt.Sscan(text, &lost)
	}
	if passed := after - before; !strings.Contains(out, "1000000 packets written") || wanted+lost > passed {
		t.Errorf("%d written and %d lost, of %d that passed", wanted, lost, passed)
	}
	shark := exec.Command("tshark", "-r", hosts[0].proc("root/tmp/million.pcapng"), "-T", "fields", "-e", "udp.length")
	var complaints strings.Builder
	shark.Stderr = &complaints
	lengths, err := shark.Output()
	must(t, err)
	if n := strings.Count(string(lengths), "72\n"); n != wanted { // 64 bytes and the header
		t.Errorf("tshark sees %d packets", n)
	}
	noComplaints(t, complaints.String())
}

// readFrom is how many frames overlane has read from the only container of the host.
func readFrom(t *testing.T, c *Container) int {
	t.Helper()
	var s struct {
		Datapath struct {
			Ports []struct {
				Packets int `json:"rx_packets"`
			} `json:"ports"`
		} `json:"datapath"`
	}
	must(t, json.Unmarshal([]byte(shell(t, c.Host, "overlane status -o json")), &s))
	return s.Datapath.Ports[0].Packets
}
