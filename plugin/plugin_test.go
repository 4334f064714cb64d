package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/network"
	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/names"
	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/overlay/ipam/prefix"
	"github.com/overlane/overlane/overlay/overlaytest"
)

const (
	netID   = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	epID    = "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
	sandbox = "/var/run/docker/netns/0123456789ab"

	create = `{"NetworkID":"` + netID + `","Options":{"com.docker.network.enable_ipv6":true,"com.docker.network.internal":true,` +
		`"com.docker.network.generic":{"vni":"5000","com.docker.network.driver.mtu":"1400"}},` +
		`"IPv4Data":[{"AddressSpace":"LocalDefault","Pool":"10.20.0.0/16","Gateway":"10.20.0.1/16","AuxAddresses":{}}],` +
		`"IPv6Data":[{"AddressSpace":"LocalDefault","Pool":"fd00:20::/64","Gateway":"fd00:20::1/64","AuxAddresses":{}}]}`
	endpoint = `{"NetworkID":"` + netID + `","EndpointID":"` + epID + `"}`
	join     = `{"NetworkID":"` + netID + `","EndpointID":"` + epID + `","SandboxKey":"` + sandbox + `",` +
		`"Options":{"com.docker.network.endpoint.exposedports":[{"Proto":6,"Port":80}],"com.docker.network.portmap":[]}}`
)

func createEndpoint(iface string) string {
	return `{"NetworkID":"` + netID + `","EndpointID":"` + epID + `","Interface":` + iface + `,"Options":{}}`
}

// docker calls a plugin as dockerd does.
type docker struct {
	*Plugin
	t        *testing.T
	client   *http.Client
	datapath *overlaytest.Datapath
	overlay  *overlay.Overlay
	cluster  *overlaytest.Cluster
}

// activate serves a plugin that is not ready.
func activate(t *testing.T) *docker { return activateWith(t, network.LocalScope) }

func activateWith(t *testing.T, scope string) *docker {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	path := filepath.Join(t.TempDir(), "overlane.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	d := &docker{Plugin: New(scope, log), t: t, datapath: overlaytest.NewDatapath(overlaytest.NewTaps())}
	d.client = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
	served := make(chan error, 1)
	go func() { served <- d.Serve(l) }()
	t.Cleanup(func() {
		d.client.CloseIdleConnections()
		l.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	d.overlay, err = overlay.Open(overlay.Config{
		Dir: t.TempDir(), VTEP: overlaytest.Self.VTEP.Addr(), Datapath: d.datapath, Log: log,
		Table: names.NewTable(), Names: &overlaytest.Names{}, Engine: func() error { return nil }, Host: overlaytest.NewHost(d.datapath.Taps),
		Egress:      func() (overlay.Egress, error) { return overlay.Egress{}, nil },
		UnderlayMTU: func([]netip.Addr) (int, error) { return 1500, nil },
		ReceiveMTU:  func([]netip.Addr) (int, error) { return 1500, nil },
		InContainer: d.datapath.Taps.InContainer,
		Defaults:    []prefix.DefaultPool{{Base: netip.MustParsePrefix("10.208.0.0/12"), Bits: 20}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.overlay.Close() })
	d.cluster = overlaytest.NewCluster()
	d.overlay.Attach(d.cluster)
	return d
}

func ready(t *testing.T) *docker { return readyWith(t, network.LocalScope) }

func readyWith(t *testing.T, scope string) *docker {
	t.Helper()
	d := activateWith(t, scope)
	d.Ready(d.overlay, d.cluster)
	return d
}

// call posts a body to a method, and gives the answer and its status.
func (d *docker) call(method, body string) (string, int) {
	d.t.Helper()
	request, err := http.NewRequest(http.MethodPost, "http://plugin/"+method, bytes.NewBufferString(body))
	if err != nil {
		d.t.Fatal(err)
	}
	request.Header.Set("Accept", "application/vnd.docker.plugins.v1.2+json")
	answer, err := d.client.Do(request)
	if err != nil {
		d.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return strings.TrimSpace(string(text)), answer.StatusCode
}

// driver calls a method of the network driver, and wants exactly this answer.
func (d *docker) driver(method, body, want string) {
	d.t.Helper()
	if got, code := d.call("NetworkDriver."+method, body); got != want || code != http.StatusOK {
		d.t.Errorf("%s: %d %s\nwant %s", method, code, got, want)
	}
}

// fails calls a method, and wants an error as libnetwork reads it.
func (d *docker) fails(method, body string, parts ...string) {
	d.t.Helper()
	text, code := d.call("NetworkDriver."+method, body)
	var answer struct{ Err string }
	if err := json.Unmarshal([]byte(text), &answer); err != nil || code != http.StatusInternalServerError || answer.Err == "" {
		d.t.Fatalf("%s: %d %s; want an Err", method, code, text)
	}
	for _, part := range parts {
		if !strings.Contains(answer.Err, part) {
			d.t.Errorf("%s: error %q lacks %q", method, answer.Err, part)
		}
	}
}

func TestActivation(t *testing.T) {
	d := activate(t) // Docker activates the plugin before the daemon is ready
	if got, code := d.call("Plugin.Activate", ""); got != `{"Implements":["NetworkDriver","IpamDriver"]}` || code != http.StatusOK {
		t.Errorf("Plugin.Activate: %d %s", code, got)
	}
	d.driver("GetCapabilities", "", `{"Scope":"local","ConnectivityScope":"global"}`)
}

func TestContainerLife(t *testing.T) {
	d := ready(t)
	d.driver("CreateNetwork", create, `{}`)
	d.driver("CreateNetwork", create, `{}`)

	// Docker gave the addresses: they must not be given back. It gave no MAC: that is the driver's to choose.
	d.driver("CreateEndpoint", createEndpoint(`{"Address":"10.20.0.2/16","AddressIPv6":"fd00:20::2/64","MacAddress":""}`),
		`{"Interface":{"Address":"","AddressIPv6":"","MacAddress":"02:42:0a:14:00:02"}}`)
	port := d.datapath.Ports()[0]
	if port.VNI != 5000 || port.MTU != 1400 || len(port.Addrs) != 2 || port.Addrs[0].String() != "10.20.0.2" || port.Addrs[1].String() != "fd00:20::2" {
		t.Errorf("port: %+v", port)
	}
	// No gateway and no route: Docker attaches docker_gwbridge.
	d.driver("Join", join, `{"InterfaceName":{"SrcName":"oveeeeeeeeeee","DstPrefix":"eth"},"Gateway":"","GatewayIPv6":"","StaticRoutes":null,"DisableGatewayService":false}`)
	if e := d.overlay.Status().Endpoints[0]; e.Sandbox != sandbox {
		t.Errorf("endpoint: %+v", e)
	}
	d.driver("ProgramExternalConnectivity", join, `{}`)
	d.driver("EndpointOperInfo", endpoint, `{"Value":{}}`)
	d.driver("RevokeExternalConnectivity", endpoint, `{}`)
	for range 2 {
		d.driver("Leave", endpoint, `{}`)
	}
	for range 2 {
		d.driver("DeleteEndpoint", endpoint, `{}`)
	}
	for range 2 {
		d.driver("DeleteNetwork", `{"NetworkID":"`+netID+`"}`, `{}`)
	}
	if left := d.datapath.Taps.All(); len(left) > 0 {
		t.Errorf("taps left: %v", left)
	}
}

func TestGivenMAC(t *testing.T) {
	d := ready(t)
	d.driver("CreateNetwork", create, `{}`)
	d.driver("CreateEndpoint", createEndpoint(`{"Address":"10.20.0.2/16","MacAddress":"02:00:00:00:00:07"}`),
		`{"Interface":{"Address":"","AddressIPv6":"","MacAddress":""}}`)
	if got := d.datapath.Ports()[0].MAC.String(); got != "02:00:00:00:00:07" {
		t.Errorf("port has MAC %s, want the given one", got)
	}
}

// What --driver-opt gives reaches the endpoint; Docker's own options beside it are no business of ours.
func TestDriverOptions(t *testing.T) {
	d := ready(t)
	d.driver("CreateNetwork", create, `{}`)
	request := func(options string) string {
		return strings.Replace(createEndpoint(`{"Address":"10.20.0.2/16"}`), `"Options":{}`, `"Options":{"com.docker.network.portmap":[],`+options+`}`, 1)
	}
	d.fails("CreateEndpoint", request(`"trsut":"mac"`), `driver-opt trsut="mac"`, "known options: trust")
	d.driver("CreateEndpoint", request(`"trust":"mac"`), `{"Interface":{"Address":"","AddressIPv6":"","MacAddress":"02:42:0a:14:00:02"}}`)
	if got := d.datapath.Ports()[0].Trust; got != datapath.TrustMAC {
		t.Errorf("the port has trust %d, want %d", got, datapath.TrustMAC)
	}
}

// Of a container that speaks vhost-user Docker moves no interface.
func TestNativePort(t *testing.T) {
	d := ready(t)
	d.driver("CreateNetwork", create, `{}`)
	request := strings.Replace(createEndpoint(`{"Address":"10.20.0.2/16"}`), `"Options":{}`, `"Options":{"port":"vhost-user","socket":"web","owner":"1000"}`, 1)
	d.driver("CreateEndpoint", request, `{"Interface":{"Address":"","AddressIPv6":"","MacAddress":"02:42:0a:14:00:02"}}`)
	if got := d.datapath.Ports()[0].Native; got == nil || *got != (datapath.Native{Kind: datapath.KindVhost, Name: "web", UID: 1000, GID: 1000}) {
		t.Errorf("the port is %+v", got)
	}
	d.driver("Join", join, `{"InterfaceName":{"SrcName":"","DstPrefix":"eth"},"Gateway":"","GatewayIPv6":"","StaticRoutes":null,"DisableGatewayService":false}`)
}

func TestErrors(t *testing.T) {
	d := ready(t)
	d.fails("CreateNetwork", `{"NetworkID":""}`, "NetworkID")
	d.fails("CreateNetwork", `{"NetworkID":"n","Options":{"com.docker.network.generic":{"colour":"blue"}},"IPv4Data":[{"Pool":"10.20.0.0/16"}]}`,
		`option colour="blue"`, "known options: vni, network, com.docker.network.driver.mtu")
	d.fails("CreateNetwork", `{"NetworkID":"n","IPv4Data":[{"Pool":"10.20.0.0"}]}`, `pool "10.20.0.0"`, "10.20.0.0/16")
	d.fails("CreateNetwork", `{"NetworkID":"n"}`, "no subnet", "--subnet")
	d.fails("CreateEndpoint", createEndpoint(`{"Address":"10.20.0.2/16"}`), "network aaaaaaaaaaaa", "not known")
	d.fails("Join", join, "network aaaaaaaaaaaa", "not known")

	d.driver("CreateNetwork", create, `{}`)
	d.fails("CreateEndpoint", createEndpoint(`null`), "eeeeeeeeeeee", "Interface")
	d.fails("CreateEndpoint", createEndpoint(`{"Address":"10.20.0.2"}`), `address "10.20.0.2"`, "prefix length")
	d.fails("CreateEndpoint", createEndpoint(`{"Address":"10.20.0.2/16","MacAddress":"02:42"}`), "eeeeeeeeeeee", `"02:42"`)
	d.fails("CreateEndpoint", createEndpoint(`{}`), "no IP address")
	d.fails("Join", join, "endpoint eeeeeeeeeeee", "not known")

	if text, code := d.call("NetworkDriver.CreateNetwork", `{"NetworkID":`); code != http.StatusBadRequest {
		t.Errorf("half a request: %d %s", code, text)
	}
}

// Calls that come while the daemon starts wait until it is ready.
func TestCallsWaitForStart(t *testing.T) {
	d := activate(t)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		d.driver("CreateNetwork", create, `{}`)
	}()
	waitUntil(t, "the call is under way", d.underWay)
	select {
	case <-answered:
		t.Error("answered before the daemon was ready")
	default:
	}
	d.Ready(d.overlay, d.cluster)
	<-answered
}

func TestStartTakesTooLong(t *testing.T) {
	d := activate(t)
	d.startWait = time.Millisecond
	d.fails("CreateNetwork", create, "still starting", "1ms", "log")
	d.Waits(errors.New("this host has no default route"))
	d.fails("CreateNetwork", create, "overlane waits for this host's address: this host has no default route")
	d.Waits(nil)
	d.fails("CreateNetwork", create, "still starting")
}

func TestCallsAfterClose(t *testing.T) {
	d := activate(t)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		d.fails("CreateNetwork", create, "stopping")
	}()
	waitUntil(t, "the call is under way", d.underWay)
	d.Close()
	<-answered
	d.fails("Leave", endpoint, "stopping")
	d.Ready(d.overlay, d.cluster)
	d.fails("Leave", endpoint, "stopping")
}

// A host that must not serve says why, to calls that wait for its start and to all after it.
func TestRefusedCallsHearTheReason(t *testing.T) {
	d := activate(t)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		d.fails("CreateNetwork", create, "host2 has its identity")
	}()
	waitUntil(t, "the call is under way", d.underWay)
	d.Refuse(errors.New("host2 has its identity"))
	<-answered
	d.Ready(d.overlay, d.cluster)
	d.fails("Join", join, "host2 has its identity")
}

// slow is an overlay whose Leave lasts until it is told to end.
type slow struct {
	*overlay.Overlay
	end chan struct{}
}

func (s slow) Leave(string, string) error {
	<-s.end
	return nil
}

func TestCloseWaitsForCalls(t *testing.T) {
	d := activate(t)
	s := slow{d.overlay, make(chan struct{})}
	d.Ready(s, d.cluster)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		d.driver("Leave", endpoint, `{}`)
	}()
	waitUntil(t, "the call is under way", d.underWay)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		d.Close()
	}()
	<-d.stop
	select {
	case <-closed:
		t.Error("closed while a call is under way")
	default:
	}
	close(s.end)
	<-answered
	<-closed
}

// underWay says whether a call holds the lock.
func (d *docker) underWay() bool {
	if d.calls.TryLock() {
		d.calls.Unlock()
		return false
	}
	return true
}

func waitUntil(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after ten seconds not yet: %s", what)
		}
	}
}
