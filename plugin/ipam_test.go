package plugin

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/network"
)

const (
	pool      = "subnet=10.20.0.0/24 10.20.0.0/24"
	withMAC   = `"Options":{"com.docker.network.endpoint.macaddress":"02:42:0a:14:00:02"}`
	asGateway = `"Options":{"RequestAddressType":"com.docker.network.gateway"}`
)

// ipam calls a method of the IPAM driver, and wants exactly this answer; or an error with this text, where want begins with "Err:".
func (d *docker) ipam(method, body, want string) {
	d.t.Helper()
	got, code := d.call("IpamDriver."+method, body)
	if text, refused := strings.CutPrefix(want, "Err:"); refused {
		if code != http.StatusInternalServerError || !strings.Contains(got, text) {
			d.t.Errorf("%s %s: %d %s, want an error with %q", method, body, code, got, text)
		}
		return
	}
	if got != want || code != http.StatusOK {
		d.t.Errorf("%s %s: %d %s, want %s", method, body, code, got, want)
	}
}

func requestPool(subnet, within string) string {
	return `{"AddressSpace":"overlane-local","Pool":"` + subnet + `","SubPool":"` + within + `","Options":{},"V6":false}`
}

func requestAddress(addr, options string) string {
	return `{"PoolID":"` + pool + `","Address":"` + addr + `",` + options + `}`
}

// What Docker asks during `docker network create`, `docker run`, a restart of its own, and `docker network rm`.
func TestAddressLife(t *testing.T) {
	d := ready(t)
	d.cluster.Forget()
	d.ipam("GetCapabilities", "", `{"RequiresMACAddress":true,"RequiresRequestReplay":true}`)
	d.ipam("GetDefaultAddressSpaces", "", `{"LocalDefaultAddressSpace":"overlane-local","GlobalDefaultAddressSpace":"overlane-global"}`)
	for range 2 { // Docker asks for it all again when it starts
		d.ipam("RequestPool", requestPool("10.20.0.0/24", ""), `{"PoolID":"`+pool+`","Pool":"10.20.0.0/24","Data":{}}`)
		d.ipam("RequestAddress", requestAddress("", asGateway), `{"Address":"10.20.0.1/24","Data":{}}`)
		d.ipam("RequestAddress", requestAddress("10.20.0.9", `"Options":null`), `{"Address":"10.20.0.9/24","Data":{}}`)
		d.ipam("RequestAddress", requestAddress("10.20.0.2", withMAC), `{"Address":"10.20.0.2/24","Data":{}}`)
	}
	d.ipam("RequestAddress", requestAddress("10.20.0.2", `"Options":{"com.docker.network.endpoint.macaddress":"02:42:0a:14:00:03"}`), "Err:address 10.20.0.2: is in use on this host")
	d.ipam("RequestAddress", requestAddress("10.20.0.9", withMAC), "Err:address 10.20.0.9: is the network's reserved address")
	d.ipam("RequestAddress", requestAddress("10.20.0.2", `"Options":null`), `{"Address":"10.20.0.2/24","Data":{}}`) // a container that Docker finds at its start
	d.ipam("RequestAddress", requestAddress("", withMAC), `{"Address":"10.20.0.3/24","Data":{}}`)
	d.ipam("ReleaseAddress", `{"PoolID":"`+pool+`","Address":"10.20.0.2"}`, `{}`)
	d.ipam("ReleaseAddress", `{"PoolID":"`+pool+`","Address":"10.20.0.2"}`, `{}`)
	d.ipam("RequestAddress", requestAddress("", withMAC), `{"Address":"10.20.0.4/24","Data":{}}`) // the released one is held back
	d.ipam("ReleasePool", `{"PoolID":"`+pool+`"}`, `{}`)                                          // of a network that could not be created beside the one whose containers have these
	d.ipam("RequestAddress", requestAddress("", withMAC), `{"Address":"10.20.0.5/24","Data":{}}`)
	for _, addr := range []string{"10.20.0.3", "10.20.0.4", "10.20.0.5"} {
		d.ipam("ReleaseAddress", `{"PoolID":"`+pool+`","Address":"`+addr+`"}`, `{}`)
	}
	d.ipam("ReleasePool", `{"PoolID":"`+pool+`"}`, `{}`)
	d.ipam("RequestAddress", requestAddress("", withMAC), "Err:not known to overlane on this host")
}

func TestBadPools(t *testing.T) {
	d := ready(t)
	d.cluster.Forget()
	d.ipam("RequestPool", requestPool("10.20.0.0/24", ""), `{"PoolID":"`+pool+`","Pool":"10.20.0.0/24","Data":{}}`)
	for body, want := range map[string]string{
		requestPool("10.20.0.0/16", ""):                                              "subnet 10.20.0.0/16: overlaps with subnet 10.20.0.0/24 of subnet=10.20.0.0/24, which this host has: give another --subnet. If `docker network ls` has no network with that subnet any more: create one with --ipam-driver overlane --subnet 10.20.0.0/24, and remove it",
		requestPool("10.30.0.1/24", ""):                                              "subnet 10.30.0.1/24: has bits set in its host part: did you mean 10.30.0.0/24?",
		requestPool("10.30.0.0/31", ""):                                              "subnet 10.30.0.0/31: is too small",
		requestPool("10.30.0.0/24", "10.31.0.0/25"):                                  "ip-range 10.31.0.0/25: lies outside subnet 10.30.0.0/24",
		requestPool("10.30.0.0/24", "fd00::/80"):                                     "ip-range fd00::/80: is of another family than subnet 10.30.0.0/24",
		requestPool("10.30.0.0/24", "10.30.0.0/16"):                                  "ip-range 10.30.0.0/16: lies outside",
		requestPool("10.30.0.0", ""):                                                 `subnet \"10.30.0.0\"`,
		requestPool("10.30.0.0/24", "10.30.0.0"):                                     `ip-range \"10.30.0.0\": want one such as 10.20.1.0/24`,
		requestPool("fd00:20::/64", ""):                                              "subnet fd00:20::/64: is of another IP version",
		requestPool("", "10.30.0.0/25"):                                              "ip-range 10.30.0.0/25: has no subnet",
		requestPool("10.20.0.0/24", "10.20.0.0/25"):                                  "ip-range 10.20.0.0/25: this host has subnet 10.20.0.0/24 already, with ip-range none: give the same, or remove that network first",
		`{"Pool":"10.30.0.0/24","Options":{"color":"red"}}`:                          `ipam-opt color=\"red\": unknown option (known options: network, vni)`,
		`{"Pool":"10.30.0.0/24","Options":{"vni":"0"}}`:                              `ipam-opt vni=\"0\": want a number from 1 to 16777215 (known options: network, vni)`,
		`{"Pool":"10.30.0.0/24","Options":{"com.docker.network.driver.mtu":"1400"}}`: `ipam-opt com.docker.network.driver.mtu=\"1400\": unknown option`,
	} {
		d.ipam("RequestPool", body, "Err:"+want)
	}
	d.ipam("RequestAddress", requestAddress("10.20", withMAC), `Err:address \"10.20\": want one such as 10.20.0.2`)
	d.ipam("RequestAddress", requestAddress("10.21.0.1", asGateway), "Err:gateway: address 10.21.0.1: lies outside subnet 10.20.0.0/24: give one from 10.20.0.1 to 10.20.0.254")
	d.ipam("RequestAddress", requestAddress("10.21.0.1", `"Options":null`), "Err:aux-address: address 10.21.0.1: lies outside subnet 10.20.0.0/24: give one")
	d.ipam("RequestAddress", requestAddress("10.20.0.255", withMAC), "Err:address 10.20.0.255: is not for hosts in subnet 10.20.0.0/24: give one from 10.20.0.1 to 10.20.0.254")
	d.ipam("RequestAddress", requestAddress("10.20.0.7", asGateway), `{"Address":"10.20.0.7/24","Data":{}}`)
	d.ipam("RequestAddress", requestAddress("10.20.0.8", asGateway), "Err:gateway 10.20.0.8: the network has gateway 10.20.0.7 on its other hosts")
	if pools := d.overlay.Addresses().Pools; len(pools) != 1 {
		t.Errorf("pools after bad requests: %+v, want the good one alone", pools)
	}
}

// A pool is given again, as Docker asks for it at its start; the network that has it stays nevertheless, with or without containers.
func TestSecondNetworkOfAPool(t *testing.T) {
	d := ready(t)
	d.cluster.Forget()
	const taken = `"IPv4Data":[{"Pool":"10.20.0.0/24"}]}`
	for range 2 {
		d.ipam("RequestPool", requestPool("10.20.0.0/24", ""), `{"PoolID":"`+pool+`","Pool":"10.20.0.0/24","Data":{}}`)
	}
	d.driver("CreateNetwork", `{"NetworkID":"`+netID+`",`+taken, `{}`)
	d.fails("CreateNetwork", `{"NetworkID":"second",`+taken, "network aaaaaaaaaaaa is already on this host with key subnet=10.20.0.0/24", "choose another --subnet", "-o vni=NUMBER or -o network=NAME")
	if networks := d.overlay.Status().Networks; len(networks) != 1 || networks[0].ID != netID {
		t.Errorf("networks %+v, want the first alone", networks)
	}
}

// Without a subnet there is a free one, the same for the same network; the network driver goes by it.
func TestPoolWithoutSubnet(t *testing.T) {
	d := ready(t)
	d.cluster.Forget()
	body := `{"AddressSpace":"overlane-local","Pool":"","Options":{"network":"app"},"V6":false}`
	first, code := d.call("IpamDriver.RequestPool", body)
	again, _ := d.call("IpamDriver.RequestPool", body)
	if code != http.StatusOK || first != again || !strings.Contains(first, `"PoolID":"network=app 10.`) {
		t.Fatalf("RequestPool without a subnet: %d %s, then %s", code, first, again)
	}
	subnet := d.overlay.Addresses().Pools[0].Subnet
	d.driver("CreateNetwork", `{"NetworkID":"`+netID+`","Options":{},"IPv4Data":[{"Pool":"`+subnet.String()+`"}]}`, `{}`)
	if got := d.overlay.Status().Networks[0].Key; got != "network=app" {
		t.Errorf("the network's key is %q, want that of its pool", got)
	}
	// Docker gives back the pool of a network that it could not create; the one that exists needs it, until it is deleted.
	d.ipam("ReleasePool", `{"PoolID":"network=app `+subnet.String()+`"}`, `{}`)
	if pools := d.overlay.Addresses().Pools; len(pools) != 1 || pools[0].State != "ready" {
		t.Errorf("pools: %+v, want the network's", pools)
	}
	d.driver("DeleteNetwork", `{"NetworkID":"`+netID+`"}`, `{}`)
	waitUntil(t, "the deleted network's pool is given back", func() bool { return len(d.overlay.Addresses().Pools) == 0 })
}

// Only a network with --internal may have the subnet of Docker's egress bridge.
func TestInternalIsPassedOn(t *testing.T) {
	for _, internal := range []bool{false, true} {
		spec, err := networkSpec(&network.CreateNetworkRequest{NetworkID: netID, Options: map[string]any{"com.docker.network.internal": internal}})
		if err != nil || spec.Internal != internal {
			t.Errorf("internal %v is %v (%v)", internal, spec.Internal, err)
		}
	}
}

// Docker's usual cure for a damaged local-kv.db: it is deleted and the engine restarted, which knows none of its networks then. They can
// be made again. A network that the engine may know stays.
func TestEngineForgotItsNetworks(t *testing.T) {
	data := func(id, space string) string {
		return `{"NetworkID":"` + id + `","IPv4Data":[{"AddressSpace":"` + space + `","Pool":"10.20.0.0/24"}]}`
	}
	const ours, dockers = "overlane-local", "LocalDefault"
	activate := func(d *docker) { d.call("Plugin.Activate", "") }
	getPool := func(d *docker) {
		d.ipam("RequestPool", requestPool("10.20.0.0/24", ""), `{"PoolID":"`+pool+`","Pool":"10.20.0.0/24","Data":{}}`)
	}
	for name, c := range map[string]struct {
		old, created string // address spaces
		happens      func(*docker)
		forgotten    bool
	}{
		"forgotten":                {ours, ours, activate, true},
		"Docker's addresses":       {dockers, dockers, activate, true},
		"the engine did not start": {dockers, dockers, func(*docker) {}, false},
		"somebody looks at the plugin": {ours, ours, func(d *docker) {
			answer, err := d.client.Post("http://plugin/Plugin.Activate", "", nil)
			if err != nil {
				d.t.Fatal(err)
			}
			answer.Body.Close()
		}, false},
		"known, of overlane's": {ours, dockers, func(d *docker) { activate(d); getPool(d) }, false},
		"known, of Docker's":   {dockers, ours, activate, false},
		"both of overlane's":   {ours, ours, func(d *docker) { activate(d); getPool(d) }, false},
		"no addresses of any":  {"null", "null", activate, false},
		"space is not known":   {"", "", activate, false},
		"named since":          {dockers, dockers, func(d *docker) { activate(d); d.driver("CreateNetwork", data(netID, dockers), `{}`) }, false},
		"its pool was given back": {ours, ours, func(d *docker) {
			activate(d)
			getPool(d)
			d.ipam("ReleasePool", `{"PoolID":"`+pool+`"}`, `{}`)
		}, false},
		"its pool was refused": {ours, ours, func(d *docker) {
			activate(d)
			d.call("IpamDriver.RequestPool", requestPool("10.20.0.0/24", "10.20.0.0/25"))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := ready(t)
			d.cluster.Forget()
			if c.old == ours {
				getPool(d)
			}
			d.driver("CreateNetwork", data(netID, c.old), `{}`)
			c.happens(d)
			if c.created == ours {
				getPool(d)
			}
			if c.forgotten {
				d.driver("CreateNetwork", data("second", c.created), `{}`)
				if s := d.overlay.Status(); len(s.Networks) != 1 || s.Networks[0].ID != "second" {
					t.Errorf("networks %+v, want the new one alone", s.Networks)
				}
				return
			}
			d.fails("CreateNetwork", data("second", c.created), "network aaaaaaaaaaaa is already on this host", "does not list network aaaaaaaaaaaa any more",
				"stop the containers that are left on it", "restart Docker", "--subnet 10.20.0.0/24")
			if s := d.overlay.Status(); len(s.Networks) != 1 || s.Networks[0].ID != netID {
				t.Errorf("networks %+v, want the old one alone", s.Networks)
			}
		})
	}
}

// An engine may start before the daemon is ready. Where a call of it was refused then, it did not get to say what it knows.
func TestEngineStartsBeforeTheDaemon(t *testing.T) {
	for _, refused := range []bool{false, true} {
		d := activate(t)
		d.call("Plugin.Activate", "")
		if refused {
			d.startWait = time.Millisecond
			d.fails("CreateNetwork", create, "still starting")
		}
		if d.early.Load() == refused {
			t.Errorf("a call was refused: %v; the start counts: %v", refused, !refused)
		}
	}
}
