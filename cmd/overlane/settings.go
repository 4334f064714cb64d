package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/docker/go-plugins-helpers/network"
	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/internal/hostaddr"
	"github.com/overlane/overlane/internal/page"
	"github.com/overlane/overlane/overlay/ipam/prefix"
)

// settings are the daemon's, checked.
type settings struct {
	dataDir        string
	join           []string
	underlay       datapath.Underlay
	address        hostaddr.Source // of the local address
	addressSetting string          // that says where the address comes from
	addressText    string          // its value
	translated     bool            // --bind is given
	local          netip.Addr      // this host's own, set by findAddress
	advertise      netip.Addr      // likewise; what the others send to
	vxlanPort      uint16
	gossipPort     uint16
	token          discovery.Token
	exposed        string // the token's file, where everybody on this host may read or write it
	insecure       bool
	encrypt        bool // each network that is made here
	remoteCapture  bool // other hosts may capture whole packets here
	cipher         int  // bytes of the keys of encrypted networks' packets
	cpus           []int
	pluginSocket   string
	controlSocket  string
	dockerSocket   string // empty: the engine is not asked
	nativeDir      string
	defaultPools   []prefix.DefaultPool
	scope          string
	static         []discovery.Static
	metrics        string // empty: none
	web            netip.AddrPort
	webPassword    *page.Password // nil: none
	logLevel       logrus.Level
	logFormat      logrus.Formatter
}

const defaultControlSocket = "/run/overlane/overlane.sock"

// setting is one of the daemon's flags and the environment variable that stands in for it.
type setting struct {
	name     string
	initial  string
	usage    string
	accepted string // what a right value is; follows "want"
	secret   bool   // the value must appear in no message
	isSwitch bool   // without a value it is true
	parse    func(*settings, string) error
}

var daemonSettings = []setting{
	{name: "data-dir", initial: "/var/lib/overlane", usage: "directory for the node's identity, networks and endpoints",
		accepted: "an absolute path", parse: func(s *settings, v string) error { return parsePath(&s.dataDir, v) }},
	{name: "join", usage: "hosts to join, with or without a port; comma separated, or given several times",
		accepted: "IP addresses or host names, each with or without a port: 192.0.2.1, node1:7950, [2001:db8::1]:7950", parse: parseJoin},
	{name: "underlay", usage: "what carries VXLAN: udp, the kernel's UDP sockets; tun, those and a tap by which super-frames leave in one piece (Linux 6.17); or a DPDK device: an interface of this host, of which VXLAN alone is taken; a PCI address; or devargs such as net_memif0,role=client (default: tun to those hosts that take such super-frames, udp to the others)",
		accepted: "udp, tun, an interface of this host, a PCI address or DPDK's devargs", parse: parseUnderlay},
	{name: "underlay-address", usage: "this host's VXLAN address, with its prefix length, on an underlay device that the kernel does not share; interface " + datapath.HostTap + " gets it",
		accepted: "an address with a prefix length, such as 192.0.2.1/24, and only with --underlay", parse: parseUnderlayAddress},
	{name: "bind", usage: "address of this host, or the interface that has it, for gossip and VXLAN where --advertise is an address that another device translates to it (default: that of --advertise)",
		accepted: "an IP address of this host or the name of an interface that has one, and only with --advertise", parse: parseBind},
	{name: "advertise", usage: "address of this host for gossip, and for VXLAN unless --underlay-address is given, or the interface that has it (default: the source address of the default route)",
		accepted: "an IP address of this host or the name of an interface that has one", parse: parseAdvertise},
	{name: "vxlan-port", initial: "4789", usage: "UDP port for VXLAN",
		accepted: "a UDP port from 1 to 65535", parse: func(s *settings, v string) error { return parsePort(&s.vxlanPort, v) }},
	{name: "gossip-port", initial: "7950", usage: "TCP and UDP port for gossip",
		accepted: "a port from 1 to 65535", parse: func(s *settings, v string) error { return parsePort(&s.gossipPort, v) }},
	{name: "token", usage: "what 'overlane token' prints on a host of the cluster that is to be joined, or the path of a file that holds it; then it is on disk, and need not be given again (default: the first host of a cluster makes one)",
		accepted: "what `overlane token` prints on another host, or the path of a file that holds it", secret: true, parse: parseToken},
	{name: "insecure", initial: "false", usage: "the cluster is open: without a token everybody who reaches the gossip port is believed; true or false, for tests (default: false)",
		accepted: "true or false", isSwitch: true, parse: func(s *settings, v string) error { return parseSwitch(&s.insecure, v) }},
	{name: "encrypt", initial: "false", usage: "each network that is made on this host is encrypted, as by -o encrypted; true or false (default: false)",
		accepted: "true or false, and true only without --insecure", isSwitch: true, parse: parseEncrypt},
	{name: "cipher", initial: "aes-128-gcm", usage: "cipher of encrypted networks' packets, unless the other host wants the stronger one: aes-128-gcm or aes-256-gcm",
		accepted: "aes-128-gcm or aes-256-gcm", parse: parseCipher},
	{name: "remote-capture", initial: "false", usage: "other hosts of the cluster may capture packets of this host's containers whole, not their headers alone; true or false (default: false)",
		accepted: "true or false", isSwitch: true, parse: func(s *settings, v string) error { return parseSwitch(&s.remoteCapture, v) }},
	{name: "cpus", usage: "CPUs of the packet workers, one worker each, such as 1 or 0-1,3 (default: the last one that the daemon may use)",
		accepted: "a list of CPUs that the daemon may use, such as 1 or 0-1,3", parse: parseCPUs},
	{name: "plugin-socket", initial: "/run/docker/plugins/overlane.sock", usage: "socket for Docker; the driver has the name of its file",
		accepted: "an absolute path", parse: func(s *settings, v string) error { return parsePath(&s.pluginSocket, v) }},
	{name: "control-socket", initial: defaultControlSocket, usage: "socket for the operator's commands, such as 'overlane status'",
		accepted: "an absolute path", parse: func(s *settings, v string) error { return parsePath(&s.controlSocket, v) }},
	{name: "docker-socket", initial: "/var/run/docker.sock", usage: "socket of Docker's engine, from which overlane hears what containers are called; none: they are found by address alone",
		accepted: "an absolute path, or none", parse: parseDockerSocket},
	{name: "native-dir", initial: datapath.NativeDir, usage: "directory in which containers with vhost-user and memif ports have theirs, for their sockets",
		accepted: "an absolute path", parse: func(s *settings, v string) error { return parsePath(&s.nativeDir, v) }},
	{name: "default-pools", initial: "10.208.0.0/12:20,fd6f:7665:726c::/48:64", usage: "where subnets are taken from that no --subnet names: prefixes, and the bits of a subnet of each",
		accepted: "a list such as 10.208.0.0/12:20,fd6f:7665:726c::/48:64", parse: parseDefaultPools},
	{name: "scope", initial: network.LocalScope, usage: "who makes networks: local, Docker on each host for itself; or global, a swarm's managers for all nodes, which takes the managed plugin",
		accepted: "local or global", parse: parseScope},
	{name: "static", usage: "file of endpoints behind VTEPs that speak no gossip, one a line: VNI, MAC, IP addresses (comma separated, or -), VTEP with or without a port (default: none)",
		accepted: "the path of a file with lines such as: 5000 02:42:0a:14:00:09 10.20.0.9 192.0.2.9", parse: parseStatic},
	{name: "metrics", usage: "address and port on which to serve metrics to Prometheus, such as 127.0.0.1:9750 or :9750 (default: none)",
		accepted: "an address and a port, such as 127.0.0.1:9750 or :9750", parse: parseMetrics},
	{name: "web", usage: "address and port on which to serve a page that shows the cluster to browsers, such as 127.0.0.1:9751; any but a loopback one takes --web-password-file (default: none)",
		accepted: "an IP address and a port, such as 127.0.0.1:9751 or :9751", parse: parseWeb},
	{name: "web-password-file", usage: "file whose first line is the password for --web, of 12 characters or more (default: everybody who reaches the page is let in)",
		accepted: "the path of a file that not everybody may read, whose first line has 12 characters or more, such as `openssl rand -hex 16` prints", parse: parseWebPassword},
	{name: "log-level", initial: "info", usage: "least severity to log: trace, debug, info, warning, error",
		accepted: "trace, debug, info, warning or error", parse: parseLogLevel},
	{name: "log-format", initial: "text", usage: "form of the log: text or json",
		accepted: "text or json", parse: parseLogFormat},
}

// env is the environment variable that stands in for the flag.
func (s *setting) env() string {
	return "OVERLANE_" + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

// wrong says what is wrong with a value, in one line.
func (s *setting) wrong(text string, err error) error {
	shown := fmt.Sprintf(" %q", text)
	if s.secret {
		shown = ""
	}
	return fmt.Errorf("--%s (%s)%s: %w: want %s", s.name, s.env(), shown, err, s.accepted)
}

func settingNamed(name string) *setting {
	for i := range daemonSettings {
		if daemonSettings[i].name == name {
			return &daemonSettings[i]
		}
	}
	return nil
}

// flagValue keeps a flag as it was given; several times are one list.
type flagValue struct{ text string }

func (f *flagValue) String() string { return f.text }
func (f *flagValue) Type() string   { return "value" }
func (f *flagValue) Set(text string) error {
	f.text = text
	return nil
}

type listValue struct {
	flagValue
	given bool
}

func (f *listValue) Set(text string) error {
	if f.given {
		text = f.text + "," + text
	}
	f.text, f.given = text, true
	return nil
}

func addFlags(flags *pflag.FlagSet, all []setting) {
	for _, s := range all {
		var value pflag.Value = &flagValue{s.initial}
		if s.name == "join" {
			value = &listValue{}
		}
		flags.Var(value, s.name, fmt.Sprintf("%s [$%s]", s.usage, s.env()))
		if s.isSwitch {
			flags.Lookup(s.name).NoOptDefVal = "true"
		}
	}
}

// readSettings takes each setting from its flag, else from its environment variable unless that is empty, else its
// default. The first wrong one ends it with an error of one line.
func readSettings(flags *pflag.FlagSet, all []setting) (settings, error) {
	var result settings
	for _, s := range all {
		flag := flags.Lookup(s.name)
		text := flag.Value.String()
		if env := os.Getenv(s.env()); env != "" && !flag.Changed {
			text = env
		}
		if err := s.parse(&result, text); err != nil {
			return settings{}, s.wrong(text, err)
		}
	}
	return result, nil
}

func parseUnderlay(s *settings, text string) error {
	s.underlay.Device = text
	return s.underlay.Check()
}

// parseUnderlayAddress comes after parseUnderlay.
func parseUnderlayAddress(s *settings, text string) (err error) {
	if text == "" {
		return nil
	}
	if s.underlay.Addr, err = netip.ParsePrefix(text); err != nil {
		return errors.New("not an address with a prefix length")
	}
	if addr := s.underlay.Addr.Addr(); !addr.IsGlobalUnicast() || addr.Is4In6() {
		return errors.New("other hosts can't reach that address")
	}
	return s.underlay.Check()
}

// vtep is the address to which the others send VXLAN.
func (s *settings) vtep() netip.Addr {
	if s.underlay.Addr.IsValid() {
		return s.underlay.Addr.Addr()
	}
	return s.advertise
}

// source is the outer source of this host's VXLAN.
func (s *settings) source() netip.Addr {
	if s.underlay.Addr.IsValid() {
		return s.underlay.Addr.Addr()
	}
	return s.local
}

func parseSwitch(to *bool, text string) error {
	switch text {
	case "", "false":
	case "true":
		*to = true
	default:
		return errors.New("neither true nor false")
	}
	return nil
}

// parseEncrypt comes after --insecure.
func parseEncrypt(s *settings, text string) error {
	if err := parseSwitch(&s.encrypt, text); err != nil {
		return err
	}
	if s.encrypt && s.insecure {
		return errors.New("the cluster is open to everybody (--insecure), so that anybody would get its keys")
	}
	return nil
}

// cipherKeys are the lengths of keys.
var cipherKeys = map[string]int{"aes-128-gcm": 16, "aes-256-gcm": 32}

func parseCipher(s *settings, text string) error {
	length, known := cipherKeys[text]
	if !known {
		return errors.New("unknown cipher")
	}
	s.cipher = length
	return nil
}

func parsePath(to *string, text string) error {
	if !strings.HasPrefix(text, "/") {
		return fmt.Errorf("not an absolute path")
	}
	*to = text
	return nil
}

func parseDockerSocket(s *settings, text string) error {
	if text == "none" {
		return nil
	}
	return parsePath(&s.dockerSocket, text)
}

func parseMetrics(s *settings, text string) error {
	if text == "" {
		return nil
	}
	s.metrics = text
	_, err := parseListen(text)
	return err
}

// parseListen takes an address and a port; without an address it is all of this host's.
func parseListen(text string) (netip.AddrPort, error) {
	host, text, err := net.SplitHostPort(text)
	if err != nil {
		return netip.AddrPort{}, errors.New("not an address and a port")
	}
	addr := netip.IPv6Unspecified()
	if host != "" {
		if addr, err = netip.ParseAddr(host); err != nil {
			return netip.AddrPort{}, errors.New("not an IP address")
		}
	}
	var port uint16
	err = parsePort(&port, text)
	return netip.AddrPortFrom(addr, port), err
}

func parseWeb(s *settings, text string) (err error) {
	if text != "" {
		s.web, err = parseListen(text)
	}
	return err
}

// parseWebPassword comes after --web.
func parseWebPassword(s *settings, text string) (err error) {
	switch {
	case text != "" && !s.web.IsValid():
		return errors.New("there is no page for it: give --web too")
	case text != "":
		s.webPassword, err = page.ReadPassword(text)
	case s.web.IsValid() && !s.web.Addr().Unmap().IsLoopback():
		err = fmt.Errorf("--web %s is reached by others, who need a password", s.web)
	}
	return err
}

func parsePort(to *uint16, text string) error {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return fmt.Errorf("not a port")
	}
	*to = uint16(port)
	return nil
}

func parseJoin(s *settings, text string) error {
	for entry := range strings.SplitSeq(text, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		if err := checkHost(entry); err != nil {
			return err
		}
		s.join = append(s.join, entry)
	}
	return nil
}

// checkHost accepts an address or a name, alone or with a port. An IPv6 address with a port stands in brackets.
func checkHost(text string) error {
	if _, err := netip.ParseAddr(text); err == nil {
		return nil
	}
	host := text
	if strings.ContainsAny(text, ":[]") {
		var port string
		var err error
		if host, port, err = net.SplitHostPort(text); err != nil {
			return fmt.Errorf("%q is not a host with a port", text)
		}
		var number uint16
		if err := parsePort(&number, port); err != nil {
			return fmt.Errorf("%q is not a port", port)
		}
		if _, err := netip.ParseAddr(host); err == nil {
			return nil
		}
	}
	if !isHostName(host) {
		return fmt.Errorf("%q is neither an IP address nor a host name", host)
	}
	return nil
}

// isHostName follows RFC 1123 section 2.1, with the underscores that container names have. What looks like an IPv4
// address and is none is refused.
func isHostName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	letters := false
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return false
		}
		for _, c := range label {
			switch {
			case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '-', c == '_':
				letters = true
			case c < '0' || c > '9':
				return false
			}
		}
	}
	return letters
}

func parseDefaultPools(s *settings, text string) (err error) {
	s.defaultPools, err = prefix.ParseDefaultPools(text)
	return err
}

func parseScope(s *settings, text string) error {
	if text != network.LocalScope && text != network.GlobalScope {
		return errors.New("not a scope of Docker's networks")
	}
	s.scope = text
	return nil
}

func parseLogLevel(s *settings, text string) (err error) {
	s.logLevel, err = logrus.ParseLevel(text)
	if err != nil {
		return fmt.Errorf("unknown level")
	}
	return nil
}

func parseLogFormat(s *settings, text string) error {
	switch text {
	case "text":
		s.logFormat = &logrus.TextFormatter{FullTimestamp: true}
	case "json":
		s.logFormat = &logrus.JSONFormatter{}
	default:
		return fmt.Errorf("unknown format")
	}
	return nil
}
