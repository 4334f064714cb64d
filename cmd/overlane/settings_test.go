package main

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/internal/testns"
)

// loopback keeps the tests from depending on a default route.
var loopback = []string{"--advertise", "127.0.0.1"}

// read gives the settings of a command line and environment, NAME=VALUE.
func read(t *testing.T, args []string, env ...string) (settings, error) {
	t.Helper()
	for _, s := range daemonSettings {
		t.Setenv(s.env(), "")
	}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	cmd := daemonCommand()
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	s, err := readSettings(cmd.Flags(), daemonSettings)
	if err == nil {
		err = s.findAddress()
	}
	return s, err
}

func mustRead(t *testing.T, args []string, env ...string) settings {
	t.Helper()
	s, err := read(t, append(slices.Clone(loopback), args...), env...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDefaults(t *testing.T) {
	s := mustRead(t, nil)
	if s.dataDir != "/var/lib/overlane" || s.vxlanPort != 4789 || s.gossipPort != 7950 || !s.token.IsZero() || s.insecure || len(s.join) > 0 ||
		s.pluginSocket != "/run/docker/plugins/overlane.sock" || s.controlSocket != "/run/overlane/overlane.sock" || s.scope != "local" || s.logLevel != logrus.InfoLevel {
		t.Errorf("defaults: %+v", s)
	}
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		t.Fatal(err)
	}
	usable := cpuList(&allowed)
	if len(s.cpus) != 1 || s.cpus[0] != usable[len(usable)-1] {
		t.Errorf("default CPUs %v, want the last of %v", s.cpus, usable)
	}
}

func TestFlagBeforeEnvironmentBeforeDefault(t *testing.T) {
	if s := mustRead(t, nil, "OVERLANE_VXLAN_PORT=4790"); s.vxlanPort != 4790 {
		t.Errorf("port %d, want that of the environment", s.vxlanPort)
	}
	if s := mustRead(t, []string{"--vxlan-port", "4791"}, "OVERLANE_VXLAN_PORT=4790"); s.vxlanPort != 4791 {
		t.Errorf("port %d, want that of the flag", s.vxlanPort)
	}
	if s := mustRead(t, []string{"--vxlan-port", "4789"}, "OVERLANE_VXLAN_PORT=wrong"); s.vxlanPort != 4789 {
		t.Errorf("port %d, want that of the flag", s.vxlanPort)
	}
}

func TestHelpShowsEnvironment(t *testing.T) {
	cmd := daemonCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	if err := cmd.Help(); err != nil {
		t.Fatal(err)
	}
	for _, s := range daemonSettings {
		for _, part := range []string{"--" + s.name, "$OVERLANE_" + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_")), s.initial} {
			if !strings.Contains(out.String(), part) {
				t.Errorf("help lacks %q", part)
			}
		}
	}
}

// The service's file of settings changes nothing as it is, and shows each of them.
func TestSettingsOfTheService(t *testing.T) {
	text, err := os.ReadFile("../../contrib/systemd/overlane.default")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line != "\n" && !strings.HasPrefix(line, "#") {
			t.Errorf("%q is set", line)
		}
	}
	for _, s := range daemonSettings {
		if line := "\n#" + s.env() + "=" + s.initial; !strings.Contains(string(text), line) {
			t.Errorf("no line %s", line[1:])
		}
	}
}

func TestJoin(t *testing.T) {
	s := mustRead(t, []string{"--join", "192.0.2.1, node-1:7000", "--join", "[2001:db8::1]:7950,2001:db8::2", "--join", "app_host.example.net."})
	want := []string{"192.0.2.1", "node-1:7000", "[2001:db8::1]:7950", "2001:db8::2", "app_host.example.net."}
	if !slices.Equal(s.join, want) {
		t.Errorf("join %q, want %q", s.join, want)
	}
	if s := mustRead(t, nil, "OVERLANE_JOIN=a,b"); !slices.Equal(s.join, []string{"a", "b"}) {
		t.Errorf("join %q, want a and b", s.join)
	}
}

func TestAdvertise(t *testing.T) {
	if s := mustRead(t, []string{"--advertise", "::1"}); s.advertise != netip.MustParseAddr("::1") {
		t.Errorf("advertise %s, want ::1", s.advertise)
	}
}

func TestEncrypt(t *testing.T) {
	if s := mustRead(t, nil); s.encrypt || s.cipher != 16 {
		t.Errorf("by default networks are encrypted: %v, with keys of %d bytes", s.encrypt, s.cipher)
	}
	if s := mustRead(t, []string{"--encrypt", "--cipher", "aes-256-gcm"}); !s.encrypt || s.cipher != 32 {
		t.Errorf("encrypted: %v, with keys of %d bytes", s.encrypt, s.cipher)
	}
	_, err := read(t, append([]string{"--encrypt", "--insecure"}, loopback...))
	checkWrong(t, err, []string{"--encrypt", "OVERLANE_ENCRYPT", "open to everybody (--insecure)", "without --insecure"})
}

// The page is for this host's own, unless there is a password.
func TestWeb(t *testing.T) {
	if s := mustRead(t, nil); s.web.IsValid() || s.webPassword != nil {
		t.Errorf("by default a page is served on %s", s.web)
	}
	for _, at := range []string{"127.0.0.1:9751", "[::1]:9751", "127.9.9.9:1", "[::ffff:127.0.0.1]:9751"} {
		if s := mustRead(t, []string{"--web", at}); s.webPassword != nil || !s.web.IsValid() {
			t.Errorf("--web %s is %s", at, s.web)
		}
	}
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"192.0.2.1:9751", ":9751", "0.0.0.0:9751", "[::]:9751", "[2001:db8::1]:9751"} {
		_, err := read(t, append([]string{"--web", at}, loopback...))
		checkWrong(t, err, []string{"--web-password-file", "OVERLANE_WEB_PASSWORD_FILE", "reached by others", "openssl rand"})
		if s := mustRead(t, []string{"--web", at, "--web-password-file", password}); s.webPassword == nil {
			t.Errorf("--web %s has no password", at)
		}
	}
}

// A host of both families has the family of those that it joins.
func TestFamilyOfTheHostsToJoin(t *testing.T) {
	testns.Enter(t)
	testns.Run(t, "ip link add wire type veth peer name far", "ip link set wire up", "ip addr add 192.0.2.1/24 dev wire", "ip addr add 2001:db8:1::1/64 dev wire nodad")
	for join, want := range map[string]string{
		"":                               "192.0.2.1",
		"2001:db8::1,[2001:db8::2]:7950": "2001:db8:1::1",
		"2001:db8::1,192.0.2.2":          "192.0.2.1",
		"2001:db8::1,node-1":             "192.0.2.1",
	} {
		if s, err := read(t, []string{"--advertise", "wire", "--join", join}); err != nil || s.advertise.String() != want {
			t.Errorf("a host that joins %q advertises %s, %v; want %s", join, s.advertise, err, want)
		}
	}
}

// What is advertised need not be the host's where that is bound to another address.
func TestBind(t *testing.T) {
	s, err := read(t, []string{"--bind", "127.0.0.2", "--advertise", "203.0.113.9"})
	if err == nil {
		t.Errorf("%s is on no device, and was taken", s.source())
	}
	s, err = read(t, []string{"--bind", "127.0.0.1", "--advertise", "203.0.113.9"})
	if err != nil || s.source().String() != "127.0.0.1" || s.vtep().String() != "203.0.113.9" || s.local != s.source() || s.advertise != s.vtep() {
		t.Errorf("bound to %s and advertised as %s, %v", s.source(), s.vtep(), err)
	}
	for _, tc := range [][]string{{"--bind", "127.0.0.1"}, {"--bind", "127.0.0.1", "--advertise", "lo"}, {"--bind", "127.0.0.1", "--advertise", "2001:db8::1"}, {"--bind", "nosuchif0", "--advertise", "203.0.113.9"}} {
		if _, err := read(t, tc); err == nil || !strings.Contains(err.Error(), "OVERLANE_") {
			t.Errorf("%q: %v", tc, err)
		}
	}
}

// A device that the kernel does not share has the VTEP's address to itself; gossip may use it as well.
func TestUnderlay(t *testing.T) {
	args := []string{"--underlay", "net_memif0,role=client", "--underlay-address", "198.51.100.1/24"}
	if s := mustRead(t, args); s.vtep() != netip.MustParseAddr("198.51.100.1") || s.advertise != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("VTEP %s, gossip %s", s.vtep(), s.advertise)
	}
	if s := mustRead(t, append(args, "--advertise", "198.51.100.1")); s.vtep() != s.advertise {
		t.Errorf("VTEP %s, gossip %s", s.vtep(), s.advertise)
	}
	for _, name := range []string{"tun", "udp"} {
		if s := mustRead(t, []string{"--underlay", name}); s.vtep() != s.advertise || s.underlay.KernelInterface() {
			t.Errorf("VTEP %s, gossip %s, underlay %q", s.vtep(), s.advertise, s.underlay.Device)
		}
	}
	if s := mustRead(t, []string{"--underlay", "lo"}); s.vtep() != s.advertise || s.underlay.Device != "lo" {
		t.Errorf("VTEP %s, gossip %s, underlay %q", s.vtep(), s.advertise, s.underlay.Device)
	}
}

func TestWrongValues(t *testing.T) {
	dir := t.TempDir()
	noToken := filepath.Join(dir, "nokey")
	if err := os.WriteFile(noToken, []byte("nothing of use"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		flag, value string
		want        []string
	}{
		{"data-dir", "data", []string{`"data"`, "an absolute path"}},
		{"join", "a:b:c", []string{`"a:b:c"`, "host names", "[2001:db8::1]:7950"}},
		{"join", "node1:http", []string{`"http" is not a port`}},
		{"join", "300.1.2.3", []string{`"300.1.2.3" is neither`}},
		{"join", "-node", []string{`"-node" is neither`}},
		{"join", "node one", []string{`"node one" is neither`}},
		{"join", "[2001:db8::1]", []string{`"[2001:db8::1]"`, "port"}},
		{"underlay", "nosuchif0", []string{`"nosuchif0"`, "no interface of this host", "a PCI address"}},
		{"underlay", "net_af_xdp0,iface=lo", []string{"takes all that the interface receives", "name the interface alone"}},
		{"underlay-address", "192.0.2.1", []string{`"192.0.2.1"`, "such as 192.0.2.1/24"}},
		{"underlay-address", "224.0.0.1/24", []string{`"224.0.0.1/24"`, "can't reach"}},
		{"underlay-address", "192.0.2.1/24", []string{"only with --underlay"}},
		{"advertise", "nosuchif0", []string{`"nosuchif0"`, "name of an interface"}},
		{"advertise", "eth/0", []string{`"eth/0"`, "neither an address nor the name of an interface"}},
		{"advertise", "203.0.113.9", []string{`"203.0.113.9"`, "no network device of this host"}},
		{"advertise", "0.0.0.0", []string{`"0.0.0.0"`, "can't reach"}},
		{"advertise", "ff02::1", []string{`"ff02::1"`, "can't reach"}},
		{"advertise", "lo", []string{`"lo"`, "no address that others can reach"}},
		{"vxlan-port", "0", []string{`"0"`, "1 to 65535"}},
		{"vxlan-port", "65536", []string{`"65536"`, "1 to 65535"}},
		{"gossip-port", "x", []string{`"x"`, "1 to 65535"}},
		{"cpus", "x", []string{`"x" is neither a CPU nor a range`, "such as 1 or 0-1,3"}},
		{"cpus", "1-0", []string{`"1-0" is neither`}},
		{"cpus", ",", []string{`"" is neither`}},
		{"cpus", "5000", []string{"CPU 5000", "may use"}},
		{"plugin-socket", "o.sock", []string{`"o.sock"`, "an absolute path"}},
		{"control-socket", "o.sock", []string{`"o.sock"`, "an absolute path"}},
		{"scope", "swarm", []string{`"swarm"`, "local or global"}},
		{"static", dir + "/none", []string{"no such file"}},
		{"metrics", "9750", []string{`"9750"`, "such as 127.0.0.1:9750"}},
		{"metrics", "host1:9750", []string{`"host1:9750"`, "not an IP address"}},
		{"metrics", "127.0.0.1:0", []string{`"127.0.0.1:0"`, "not a port"}},
		{"web", "9751", []string{`"9751"`, "not an address and a port", "127.0.0.1:9751"}},
		{"web", "localhost:9751", []string{"not an IP address"}},
		{"web", "127.0.0.1:x", []string{"not a port"}},
		{"web-password-file", "/etc/hostname", []string{"give --web too"}},
		{"log-level", "loud", []string{`"loud"`, "trace, debug, info"}},
		{"log-format", "xml", []string{`"xml"`, "text or json"}},
		{"token", "secret", []string{"no token", "overlane token"}},
		{"token", "@" + noToken, []string{"no token"}},
		{"token", dir + "/none", []string{"leads to no file"}},
		{"token", dir, []string{"can't read the file"}},
		{"insecure", "yes", []string{`"yes"`, "true or false"}},
		{"encrypt", "yes", []string{`"yes"`, "true or false"}},
		{"cipher", "aes-192-gcm", []string{`"aes-192-gcm"`, "aes-128-gcm or aes-256-gcm"}},
	} {
		env := "OVERLANE_" + strings.ToUpper(strings.ReplaceAll(tc.flag, "-", "_"))
		t.Run(tc.flag+"="+tc.value, func(t *testing.T) {
			args := []string{"--" + tc.flag + "=" + tc.value}
			if tc.flag != "advertise" {
				args = append(args, loopback...)
			}
			_, err := read(t, args)
			checkWrong(t, err, append(tc.want, "--"+tc.flag, env))

			args = nil
			if tc.flag != "advertise" {
				args = loopback
			}
			_, err = read(t, args, env+"="+tc.value)
			checkWrong(t, err, append(tc.want, "--"+tc.flag, env))
			if tc.flag == "token" && strings.Contains(err.Error(), tc.value) {
				t.Errorf("the error shows the token: %s", err)
			}
		})
	}
}

func checkWrong(t *testing.T, err error, parts []string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("the error has several lines: %q", err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}

func TestCPUs(t *testing.T) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, cpu := range cpuList(&allowed) {
		texts = append(texts, list([]int{cpu}))
	}
	text := strings.Join(texts, ",") + "," + texts[0] + "-" + texts[0] // one of them twice
	if s := mustRead(t, []string{"--cpus", text}); !slices.Equal(s.cpus, cpuList(&allowed)) {
		t.Errorf("CPUs %s give %v, want %v", text, s.cpus, cpuList(&allowed))
	}
}
