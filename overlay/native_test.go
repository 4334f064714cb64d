package overlay_test

import (
	"testing"

	"github.com/overlane/overlane/datapath"
)

// What kind of port an endpoint has is checked, and is the same after a restart.
func TestNativePort(t *testing.T) {
	for _, kind := range []string{datapath.KindVhost, datapath.KindMemif} {
		t.Run(kind, func(t *testing.T) { testNativePort(t, kind) })
	}
}

func testNativePort(t *testing.T, kind string) {
	h := newHost(t)
	h.network()
	endpoint := func(options ...string) error {
		s := endpointSpec(epID, "10.20.0.2")
		s.Options = map[string]string{}
		for i := 0; i < len(options); i += 2 {
			s.Options[options[i]] = options[i+1]
		}
		_, err := h.CreateEndpoint(s)
		return err
	}
	wantError(t, endpoint("port", "macvtap"), `driver-opt port="macvtap"`, "want tap, vhost-user or memif")
	wantError(t, endpoint("port", "vhost-user"), `socket directory ""`, "give socket=NAME")
	wantError(t, endpoint("port", "memif"), `port=memif: socket directory ""`, "give socket=NAME")
	wantError(t, endpoint("port", "vhost-user", "socket", "../etc"), `socket directory "../etc"`)
	wantError(t, endpoint("port", "vhost-user", "socket", "web", "owner", "nobody"), `driver-opt owner="nobody"`, "UID:GID")
	wantError(t, endpoint("port", "vhost-user", "socket", "web", "owner", "-1"), "owner -1:-1")
	wantError(t, endpoint("socket", "web"), `driver-opt socket="web"`, "is for port=vhost-user and port=memif alone")
	wantError(t, endpoint("port", "tap", "owner", "0"), `driver-opt owner="0"`, "is for port=vhost-user and port=memif alone")

	h.must(endpoint("port", kind, "socket", "web", "owner", "1000:2000"))
	ep, err := h.Join(netID, epID, sandbox)
	h.must(err)
	if ep.Interface() != "" {
		t.Errorf("Docker is to move %q into the container", ep.Interface())
	}
	h.taps.Move(alias, sandbox)
	for range 2 {
		ports := h.datapath.Ports()
		if len(ports) != 1 || ports[0].Native == nil || *ports[0].Native != (datapath.Native{Kind: kind, Name: "web", UID: 1000, GID: 2000}) {
			t.Fatalf("ports: %+v", ports)
		}
		h.restart()
	}
}
