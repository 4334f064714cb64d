package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/internal/check"
	"github.com/overlane/overlane/internal/testns"
	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/plugin"
)

// standIn takes VXLAN and gossip at an address of this host, as another one does.
func standIn(t *testing.T, addr string) {
	t.Helper()
	vxlan, err := net.ListenPacket("udp", addr+":4789")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { vxlan.Close() })
	gossip, err := net.Listen("tcp", addr+":7950")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { gossip.Close() })
}

// wantLines wants lines that match, whose columns are two spaces apart.
func wantLines(t *testing.T, out string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !regexp.MustCompile(`(?m)^` + strings.ReplaceAll(line, "  ", "  +") + ` *$`).MatchString(out) {
			t.Errorf("no line matches %s in\n%s", line, out)
		}
	}
}

func TestCheckBesideADaemon(t *testing.T) {
	testns.Enter(t)
	testns.Run(t, "ip link add wire type veth peer name far", "ip link set wire up", "ip link set far up", "ip addr add 192.0.2.1/24 dev wire", "ip addr add 192.0.2.2/24 dev wire")
	standIn(t, "192.0.2.2")
	socket := daemon(t, busy(t))

	out, err := command("check", "--control-socket", socket, "--advertise", "192.0.2.1")
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	wantLines(t, out,
		`CHECK  STATE  SEEN  CURE`,
		`daemon  ok  v1\.2\.3 runs, with VTEP 192\.0\.2\.1:4789  -`,
		`member host8  warn  it has this host's identity: .*  remove the data directory of the copy, .*`,
		`member host9  warn  it belongs to cluster 9{32}, and this host to 1{32}: .*  nothing, where this is meant; .*`,
		`port 4789/udp  ok  the daemon has it  -`,
		`port 7950/tcp  ok  free  -`,
		`gossip to host2  ok  192\.0\.2\.2:7950 takes connections  -`,
		`path to host2  ok  MTU 1500: containers may have up to 1450, and get 1450  -`,
		`VXLAN to host2  ok  nothing refuses it on 192\.0\.2\.2:4789.*`,
	)
	out, err = command("check", "--control-socket", socket, "--advertise", "192.0.2.2", "--gossip-port", "7951")
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	wantLines(t, out, `daemon  warn  .* gossips on 192\.0\.2\.1:7950: not the settings that are checked  give this command the daemon's flags and environment; for the service: .*`)
}

func TestCheckWhileTheDaemonStarts(t *testing.T) {
	testns.Enter(t)
	out, err := command("check", "--control-socket", daemon(t, nil), "--advertise", "127.0.0.1")
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	wantLines(t, out, `daemon  warn  overlane is starting: try again in a moment  check again when it is ready`)
}

// A host whose datagrams get lost is one that works, and not as it should.
func TestCheckNamesTheWayThatIsBlocked(t *testing.T) {
	var c check.Config
	results := examineMembers([]overlay.MemberStatus{
		{Host: "host1", State: discovery.StateAlive, Self: true},
		{Host: "host2", State: discovery.StateAlive},
		{Host: "host3", State: discovery.StateAlive, Health: overlay.Health{Reason: "UDP does not arrive", Advice: "let it pass"}},
		{Host: "host4", State: discovery.StateDead, Health: overlay.Health{Reason: "it answers neither", Advice: "start it"}},
	}, &c)
	want := []check.Result{{Check: "member host3", State: check.Fail, Seen: "UDP does not arrive", Cure: "let it pass"}, {Check: "member host4", State: check.Warn, Seen: "it answers neither", Cure: "start it"}}
	if !slices.Equal(results, want) || len(c.Peers) != 2 {
		t.Errorf("%+v, and peers %+v", results, c.Peers)
	}
}

// A host that must not serve says so, and why, to whoever asks.
func TestRefusedHostSaysWhy(t *testing.T) {
	testns.Enter(t)
	path := filepath.Join(t.TempDir(), "run", "overlane.sock")
	l, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	ctl := newControl(func() {})
	refuse(&discovery.TwinError{Twin: "host2 at 192.0.2.2:7950", Dir: "/var/lib/overlane"}, plugin.New("local", log), ctl, log)
	go ctl.server.Serve(l)
	defer ctl.server.Close()
	for _, args := range [][]string{{"status"}, {"status", "members"}, {"ipam"}, {"leave"}} {
		if out, err := command(append(args, "--control-socket", path)...); err == nil || !strings.Contains(err.Error(), "does not serve: host2 at 192.0.2.2:7950") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	out, err := command("check", "--control-socket", path, "--advertise", "127.0.0.1")
	if err == nil {
		t.Error("the check is content")
	}
	wantLines(t, out, `daemon  fail  this host does not serve: host2 at 192\.0\.2\.2:7950 .* /var/lib/overlane .*  do as it says`)
}

func TestCheckBeforeTheDaemon(t *testing.T) {
	testns.Enter(t)
	standIn(t, "127.0.0.2")
	none := filepath.Join(t.TempDir(), "none.sock")
	out, err := command("check", "-o", "json", "--control-socket", none, "--advertise", "127.0.0.1", "--vxlan-port", "4790", "--join", "127.0.0.1,127.0.0.2,::1")
	if err == nil || !strings.Contains(err.Error(), "this host can't run overlane well") {
		t.Errorf("error %v with a port that nobody takes", err)
	}
	var results []check.Result
	if err := json.Unmarshal([]byte(out), &results); err != nil {
		t.Fatal(err)
	}
	states := map[string]check.State{}
	for _, r := range results {
		states[r.Check] = r.State
	}
	for name, want := range map[string]check.State{
		"daemon": check.OK, "port 4790/udp": check.OK, "gossip to 127.0.0.2": check.OK, "path to 127.0.0.2": check.OK,
		"VXLAN to 127.0.0.2": check.Fail, "host ::1": check.Fail, "gossip to 127.0.0.1": "",
	} {
		if states[name] != want {
			t.Errorf("%s: %q, want %q in\n%s", name, states[name], want, out)
		}
	}
}

func TestCheckOfWrongSettings(t *testing.T) {
	_, err := command("check", "--advertise", "127.0.0.1", "--vxlan-port", "0")
	checkWrong(t, err, []string{"--vxlan-port", "OVERLANE_VXLAN_PORT", "1 to 65535"})
	_, err = command("check", "--advertise", "127.0.0.1", "-o", "xml")
	checkWrong(t, err, []string{`--output "xml"`, "table, json or yaml"})
}

func TestHostsToJoinAreTakenApart(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1": "192.0.2.1 7950", "2001:db8::1": "2001:db8::1 7950", "[2001:db8::1]:7000": "2001:db8::1 7000",
		"node1": "node1 7950", "node1:7000": "node1 7000",
	} {
		host, port := splitHost(text, 7950)
		if got := fmt.Sprint(host, " ", port); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// What is joined at the host's own address is the host itself: where another one was meant, both have that address.
func TestCheckOfAHostThatJoinsItself(t *testing.T) {
	testns.Enter(t)
	none := filepath.Join(t.TempDir(), "none.sock")
	out, _ := command("check", "--control-socket", none, "--advertise", "127.0.0.1", "--join", "127.0.0.1")
	wantLines(t, out, `hosts to join  warn  127\.0\.0\.1 is this host, and --join names no other  .*give each --advertise with one of its own`)
}
