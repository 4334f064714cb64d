package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/names"
	"github.com/overlane/overlane/networks"
	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/overlay/overlaytest"
)

// command runs overlane with arguments.
func command(args ...string) (string, error) {
	var out bytes.Buffer
	root := rootCommand()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&out)
	err := root.Execute()
	return out.String(), err
}

// daemon serves a control socket, with an overlay behind it or none yet.
func daemon(t *testing.T, o *overlay.Overlay) string {
	t.Helper()
	return daemonWith(t, o, networkDaemon(t, nil))
}

func daemonWith(t *testing.T, o *overlay.Overlay, m *networks.Manager) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "overlane.sock")
	l, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	c := newControl(func() {})
	c.networks.Store(m)
	c.overlay.Store(o)
	served := make(chan error, 1)
	go func() { served <- c.server.Serve(l) }()
	t.Cleanup(func() {
		c.server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return path
}

// busy is an overlay with a network, an endpoint here and one on another host, whose MAC address could not be applied.
func busy(t *testing.T) *overlay.Overlay {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	taps, cluster := overlaytest.NewTaps(), overlaytest.NewCluster()
	pipeline := overlaytest.NewDatapath(taps)
	o, err := overlay.Open(overlay.Config{
		Dir: t.TempDir(), VTEP: overlaytest.Self.VTEP.Addr(), Datapath: pipeline, Version: "v1.2.3", Log: log,
		Table: names.NewTable(), Names: &overlaytest.Names{}, Engine: func() error { return nil }, Host: overlaytest.NewHost(taps),
		Egress:      func() (overlay.Egress, error) { return overlay.Egress{}, nil },
		UnderlayMTU: func([]netip.Addr) (int, error) { return 1500, nil },
		ReceiveMTU:  func([]netip.Addr) (int, error) { return 1500, nil },
		InContainer: taps.InContainer,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	o.Attach(cluster)
	id := strings.Repeat("e", 64)
	err = o.CreateNetwork(overlay.NetworkSpec{ID: strings.Repeat("a", 64), Options: map[string]string{"vni": "5000"}, Pools: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")}})
	if err == nil {
		_, err = o.CreateEndpoint(overlay.EndpointSpec{NetworkID: strings.Repeat("a", 64), ID: id, Addrs: []netip.Addr{netip.MustParseAddr("10.20.0.2")}})
	}
	if err == nil {
		_, err = o.Join(strings.Repeat("a", 64), id, "/var/run/docker/netns/0123456789ab")
	}
	if err != nil {
		t.Fatal(err)
	}
	cluster.Announce(discovery.Record{
		Network:  discovery.Network{Key: "vni=5000", VNI: 5000},
		Endpoint: discovery.Endpoint{ID: strings.Repeat("d", 64), MAC: discovery.MAC{2, 0, 0, 0, 0, 9}, Addrs: []netip.Addr{netip.MustParseAddr("10.20.0.9")}},
	})
	pipeline.Fail("SetMAC", errors.New("no space left on device"))
	o.Observe([]discovery.Change{{
		Network: discovery.Network{Key: "vni=5000", VNI: 5000}, Kind: discovery.KindVTEP, VTEP: overlaytest.Peer.VTEP,
	}, {
		Network: discovery.Network{Key: "vni=5000", VNI: 5000}, Kind: discovery.KindMAC,
		VTEP: overlaytest.Peer.VTEP, MAC: discovery.MAC{2, 0, 0, 0, 0, 9},
	}})
	return o
}

func TestStatusTable(t *testing.T) {
	out, err := command("status", "--control-socket", daemon(t, busy(t)))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`host +host1`,
		`version +v1\.2\.3`,
		`VTEP +192\.0\.2\.1:4789`,
		`worker CPUs +0`,
		`MEMBER +STATE +VTEP +GOSSIP +ID`,
		`host1 \(this host\) +alive +192\.0\.2\.1:4789 +192\.0\.2\.1:7950 +111111111111`,
		`host2 +alive +192\.0\.2\.2:4789 +192\.0\.2\.2:7950 +222222222222`,
		`host8 +copy +- +192\.0\.2\.8:7950 +-`,
		`host9 +stranger +- +192\.0\.2\.9:7950 +-`,
		`cluster +11111111111111111111111111111111`,
		`aaaaaaaaaaaa +vni=5000 +5000 +no +1450 +10\.20\.0\.0/16 +host1,host2`,
		`PATH TO +VTEP +MTU +SUPER-FRAMES +BECAUSE +NEXT STEP`,
		`host2 +192\.0\.2\.2:4789 +1400 +cut up: wire lacks it +a router on the way says so; containers may have 1350, and have more: vni=5000 1450 +raise .* to 1500, or make .*=1350; .*`,
		`eeeeeeeeeeee +vni=5000 +10\.20\.0\.2 +02:42:0a:14:00:02 +joined +oveeeeeeeeeee +/var/run/docker/netns/0123456789ab`,
		`dddddddddddd +vni=5000 +10\.20\.0\.9 +02:00:00:00:00:09 +host2 +192\.0\.2\.2:4789 +no`,
		`MAC 02:00:00:00:00:09 +vni=5000 +1 +[0-9]{2}:[0-9]{2}:[0-9]{2} +no space left on device`,
		`neighbours +99 +100 +remove networks .*`,
		`oveeeeeeeeeee +tap +5000 +02:42:0a:14:00:02 +0 +0 +0 +0 +0`,
		`vtep_unknown +3 +from an address that is no VTEP of ours`,
		`malformed +2`,
		`network=other +5000 +no +host2 +vni=5000 +5000 +no +use another VNI, or the same key on all hosts`,
	} {
		if !regexp.MustCompile(`(?m)^` + line + ` *$`).MatchString(out) {
			t.Errorf("no line matches %s", line)
		}
	}
	if strings.Contains(out, "spoofed_mac") {
		t.Error("a drop that never happened is shown")
	}
	if strings.Contains(out, "4096") {
		t.Error("a table with much room is shown")
	}
	if strings.Contains(out, "CONFLICT") {
		t.Error("a table without rows is shown")
	}
	if t.Failed() {
		t.Log(out)
	}
}

func TestStatusJSON(t *testing.T) {
	out, err := command("status", "-o", "json", "--control-socket", daemon(t, busy(t)))
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Node    struct{ Host, VTEP string }
		Members []struct{ State string }
		Pending []struct {
			What, Reason string
			NextTry      time.Time `json:"next_try"`
		}
		Datapath struct {
			Drops map[string]uint64
			Ports []struct{ MAC string }
		}
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatal(err)
	}
	if _, shown := s.Datapath.Drops["spoofed_mac"]; !shown || s.Node.Host != "host1" || s.Node.VTEP != "192.0.2.1:4789" ||
		len(s.Members) != 4 || len(s.Datapath.Ports) != 1 || s.Datapath.Ports[0].MAC != "02:42:0a:14:00:02" {
		t.Errorf("status: %s", out)
	}
	if p := s.Pending; len(p) != 1 || p[0].What != "MAC 02:00:00:00:00:09" || p[0].Reason != "no space left on device" || p[0].NextTry.IsZero() {
		t.Errorf("pending: %+v", p)
	}
}

func TestStatusParts(t *testing.T) {
	socket := daemon(t, busy(t))
	for part, line := range map[string]string{
		"members": `host2 +alive +192\.0\.2\.2:4789 +192\.0\.2\.2:7950 +222222222222 +- +-`,
		"records": `eeeeeeeeeeee +vni=5000 +10\.20\.0\.2 +02:42:0a:14:00:02 +host1 +192\.0\.2\.1:4789 +no +- +-`,
	} {
		out, err := command("status", part, "--control-socket", socket)
		if err != nil || !regexp.MustCompile(`(?m)^`+line+` *$`).MatchString(out) {
			t.Errorf("%s: no line matches %s (%v):\n%s", part, line, err, out)
		}
		out, err = command("status", part, "-o", "json", "--control-socket", socket)
		var rows []struct{ Host string }
		if err != nil || json.Unmarshal([]byte(out), &rows) != nil || len(rows) < 2 || rows[1].Host != "host2" {
			t.Errorf("%s: %v:\n%s", part, err, out)
		}
	}
}

func TestStatusDatapath(t *testing.T) {
	path := daemon(t, busy(t))
	out, err := command("status", "--control-socket", path, "--datapath")
	if err != nil {
		t.Fatal(err)
	}
	// 2000 cycles of a million a second, for 10 packets.
	if !regexp.MustCompile(`(?m)^decap +0\.2 % +10 +200 +headers off$`).MatchString(out) {
		t.Errorf("no such line for the stage:\n%s", out)
	}
	out, err = command("status", "--control-socket", path, "--datapath", "-o", "json")
	var stages datapath.Stages
	if err == nil {
		err = json.Unmarshal([]byte(out), &stages)
	}
	if err != nil || len(stages.Stages) != 1 || stages.Stages[0].Cycles != 2000 {
		t.Errorf("%v: %s", err, out)
	}
}

func TestStatusErrors(t *testing.T) {
	dir := t.TempDir()
	none := filepath.Join(dir, "none.sock")
	dead := filepath.Join(dir, "dead.sock")
	leaveBehind(t, dead)
	for name, tc := range map[string]struct{ path, want string }{
		"no socket":   {none, "overlane is not running: no daemon answers on " + none + "; start it with `overlane daemon`"},
		"dead socket": {dead, "overlane is not running: no daemon answers on " + dead + "; start it with `overlane daemon`"},
		"starting":    {daemon(t, nil), "overlane is starting: try again in a moment"},
	} {
		t.Run(name, func(t *testing.T) {
			if out, err := command("status", "--control-socket", tc.path); err == nil || err.Error() != tc.want || out != "" {
				t.Errorf("got %q and error %v, want error %q", out, err, tc.want)
			}
		})
	}
}

func TestStatusSocketOfEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "here.sock")
	t.Setenv("OVERLANE_CONTROL_SOCKET", path)
	if _, err := command("status"); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v does not name %s", err, path)
	}
}

func TestVersion(t *testing.T) {
	out, err := command("version")
	if err != nil || !regexp.MustCompile(`^overlane \S+`).MatchString(out) {
		t.Errorf("version: %q, %v", out, err)
	}
}

// leaveBehind makes a socket as a killed daemon leaves it.
func leaveBehind(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// A daemon that was killed is there for a moment longer: its memory goes before its sockets do.
func TestListenBesideADyingDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.sock")
	dying, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	dying.SetUnlinkOnClose(false)
	go func() {
		conn, err := dying.Accept()
		dying.Close()
		if err == nil {
			conn.Close()
		}
	}()
	l, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// besideALivingDaemon waits less for it to die.
func besideALivingDaemon(t *testing.T) {
	was := killTimeout
	killTimeout = 10 * time.Millisecond
	t.Cleanup(func() { killTimeout = was })
}

func TestListen(t *testing.T) {
	besideALivingDaemon(t)
	path := filepath.Join(t.TempDir(), "run", "o.sock")
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	leaveBehind(t, path)
	l, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket is open to others: %v, %v", info.Mode(), err)
	}
	if _, err := listen(path); err == nil || !strings.Contains(err.Error(), path+": another daemon answers on it") {
		t.Errorf("second daemon: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket stays after Close: %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(path); err == nil || !strings.Contains(err.Error(), "is not a socket") {
		t.Errorf("plain file: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the plain file is gone: %v", err)
	}
}

func TestExtraAddressesAreToldFromOwnOnes(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("10.20.0.2")}
	extras := []discovery.Extra{{Addr: netip.MustParseAddr("10.20.0.50")}, {MAC: discovery.MAC{2, 0, 0, 0, 0, 5}, Addr: netip.MustParseAddr("fd00::5")}}
	if got, want := addresses(own, extras), "10.20.0.2,+10.20.0.50,+fd00::5@02:00:00:00:00:05"; got != want {
		t.Errorf("addresses are shown as %s, want %s", got, want)
	}
}

func TestStatusNamesOffloads(t *testing.T) {
	device := datapath.DeviceStats{Name: "0000:03:00.0", Driver: "net_ice", Interface: "overlane0", MTU: 1500, VTEPs: 3, NextHops: 2}
	for want, offloads := range map[string][]string{
		"offloads: none": nil,
		"offloads: checksums of what is sent, cutting up": {"checksums of what is sent", "cutting up"},
	} {
		device.Offloads = offloads
		if got := underlayOf(datapath.Stats{Device: &device}); !strings.HasSuffix(got, "; "+want) {
			t.Errorf("%v: %q, want it to end with %q", offloads, got, want)
		}
	}
}
