//go:build lab

package lab

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// traced runs a command that shows packets on a host, beside a ping that goes on, and returns what it printed.
func traced(t *testing.T, red *Container, blue string, on *Host, command string) string {
	t.Helper()
	begin := fmt.Sprintf("(ping -q -i 0.2 %s >/dev/null 2>&1 & echo $! >/tmp/ping.pid)", blue)
	_, err := red.Exec(t.Context(), "sh", "-c", begin)
	must(t, err)
	out, err := on.Exec(t.Context(), "sh", "-c", command+" 2>&1")
	red.Exec(lasting(t), "sh", "-c", "kill $(cat /tmp/ping.pid)")
	must(t, err)
	return out
}

func hasAll(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in:\n%s", part, text)
		}
	}
}

// A packet is followed over both hosts from any third one, and where it ends is told, with the reason.
func TestTrace(t *testing.T) {
	c := cluster(t)
	network(t, c.Hosts, "app", 25)
	red, _ := start(t, c.Hosts[0], "red", "app")
	blue, blueAt := start(t, c.Hosts[1], "blue", "app")
	other, otherAt := start(t, c.Hosts[2], "other", "app")
	reach(t, red, blueAt.IPAddress, blueAt.GlobalIPv6Address)
	first, second := c.Hosts[0].hostname(t), c.Hosts[1].hostname(t)
	ping := blueAt.IPAddress.String()

	out := traced(t, red, ping, other.Host, "overlane trace -n app --from red --to blue -c 6 icmp")
	hasAll(t, out, "read from red", "sent to "+second, second+"  received from "+first, "delivered to blue", "read from blue", "delivered to red", "on app", "none was lost")

	out = traced(t, red, ping, red.Host, "overlane trace --from red -o json -c 8 icmp")
	hasAll(t, out, `"point":"read"`, `"container":"red"`, `"network":"app"`, fmt.Sprintf(`"host":%q`, second))

	shell(t, blue.Host, "iptables -I INPUT -p udp --dport 4789 -j DROP")
	out = traced(t, red, ping, red.Host, "overlane trace -n app --from red --to blue -c 3 icmp")
	shell(t, blue.Host, "iptables -D INPUT -p udp --dport 4789 -j DROP")
	hasAll(t, out, "NOT RECEIVED by "+second, "firewall")

	// The address is another's: what says so is dropped where it comes from.
	shell(t, red.Host, "nsenter -n -t $(docker inspect -f '{{.State.Pid}}' red) ip addr add "+otherAt.IPAddress.String()+"/32 dev lo")
	out = traced(t, red, ping+" -I "+otherAt.IPAddress.String(), red.Host, "overlane trace -n app -c 1 icmp and src host "+otherAt.IPAddress.String())
	hasAll(t, out, "read from red", "dropped as spoofed_ip")

	simulated := shell(t, red.Host, "overlane trace --simulate -n app red blue tcp 80")
	hasAll(t, simulated, "It arrives", "host "+second, "a path that carries IP packets of 1500 bytes")
	nobody, err := red.Host.Exec(t.Context(), "overlane", "trace", "--simulate", "red", "10.25.99.77")
	if err == nil {
		t.Errorf("to an address that nobody has: %s", nobody)
	}
}

// noComplaints is of what tshark has said beside its output.
func noComplaints(t *testing.T, said string) {
	t.Helper()
	for line := range strings.SplitSeq(said, "\n") {
		if line != "" && !strings.Contains(line, "Running as user") {
			t.Errorf("tshark: %s", line)
		}
	}
}

// A capture of all hosts is one file that tshark reads without a complaint, in order of time; payload leaves no host that does not say so.
func TestCapture(t *testing.T) {
	c := cluster(t)
	hosts := c.Hosts[:2]
	network(t, hosts, "app", 26)
	red, _ := start(t, hosts[0], "red", "app")
	_, blueAt := start(t, hosts[1], "blue", "app")
	reach(t, red, blueAt.IPAddress)
	out := traced(t, red, blueAt.IPAddress.String(), hosts[0], "overlane capture -n app --host all -c 40 -w /tmp/all.pcapng icmp")
	hasAll(t, out, "40 packets written; none was lost", hosts[1].hostname(t)+": gives headers alone")
	shark := exec.Command("tshark", "-r", hosts[0].proc("root/tmp/all.pcapng"), "-T", "fields", "-e", "frame.time_epoch", "-e", "frame.interface_name", "-e", "frame.comment", "-e", "icmp.seq")
	var complaints strings.Builder
	shark.Stderr = &complaints
	fields, err := shark.Output()
	must(t, err)
	noComplaints(t, complaints.String())
	hasAll(t, string(fields), hosts[0].hostname(t)+" red\tread from red", hosts[1].hostname(t)+" blue\tdelivered to blue", "vxlan "+hosts[1].hostname(t)+"\tsent to "+hosts[1].hostname(t))
	last := map[string]float64{} // of each interface: another host's may come late
	for line := range strings.Lines(string(fields)) {
		at, rest, _ := strings.Cut(line, "\t")
		on, _, _ := strings.Cut(rest, "\t")
		when, err := strconv.ParseFloat(at, 64)
		must(t, err)
		if when < last[on] {
			t.Errorf("not in order of time:\n%s", fields)
		}
		last[on] = when
	}
	if n := strings.Count(string(fields), "\n"); n != 40 {
		t.Errorf("%d packets", n)
	}
	_, err = hosts[0].Exec(t.Context(), "overlane", "capture", "-w", "/tmp/x", "tcp port port 80")
	if err == nil || !strings.Contains(err.Error(), "syntax error") {
		t.Errorf("a wrong filter: %v", err)
	}
}
