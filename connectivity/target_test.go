package connectivity_test

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
)

// listen counts who comes to a container that is on the bridge.
func (f *fabric) listen(addr string) *atomic.Int64 {
	f.t.Helper()
	came := new(atomic.Int64)
	f.shell("ip addr add " + addr + "/15 dev br0")
	var conns net.Listener
	var packets net.PacketConn
	must(f.t, f.wire.Do(func() (err error) {
		if conns, err = net.Listen("tcp", addr+":7007"); err == nil {
			packets, err = net.ListenPacket("udp", addr+":7007")
		}
		return err
	}))
	f.t.Cleanup(func() { conns.Close(); packets.Close() })
	go func() {
		for conn, err := conns.Accept(); err == nil; conn, err = conns.Accept() {
			conn.Close()
			came.Add(1)
		}
	}()
	go func() {
		for _, _, err := packets.ReadFrom(make([]byte, 64)); err == nil; _, _, err = packets.ReadFrom(make([]byte, 64)) {
			came.Add(1)
		}
	}()
	return came
}

// A member that leads a test has a host send to nobody but the probes that others have announced.
func TestOrdersLeadToProbesAlone(t *testing.T) {
	t.Parallel()
	f := newFabric(t, 2)
	host, leader := f.hosts[0], f.hosts[1]
	came := f.listen("198.18.0.99")
	order := func(text string) (report struct {
		Phase int `json:"phase"`
		Peers []struct {
			Announced bool `json:"announced"`
			Checks    []struct {
				Name    string `json:"name"`
				Problem string `json:"problem"`
			} `json:"checks"`
		} `json:"peers"`
	}) {
		host.Receive(leader.member.ID, []byte(`C{"test":"0123abcd","order":`+text+`}`))
		leader.mu.Lock()
		defer leader.mu.Unlock()
		var m struct {
			Report any `json:"report"`
		}
		m.Report = &report
		if len(leader.last) > 0 {
			must(t, json.Unmarshal(leader.last[1:], &m))
		}
		return report
	}
	wait(t, "a probe", func() bool { return order(`{"phase":1,"number":1,"vni":5000}`).Phase == 1 })
	peer := fmt.Sprintf(`{"id":"%s","name":"overlane-test-0123abcd-2","addrs":["198.18.0.99"],"mtu":1450}`, leader.member.ID)
	wait(t, "it has tested", func() bool { return order(`{"phase":2,"peers":[`+peer+`]}`).Phase == 2 })
	wait(t, "it has told", func() bool { return order(`{"phase":3}`).Phase == 3 })
	found := order(`{"phase":3}`).Peers
	if len(found) != 1 || found[0].Announced || !strings.Contains(found[0].Checks[0].Problem, "does not know yet") {
		t.Errorf("%+v", found)
	}
	if n := came.Load(); n > 0 {
		t.Errorf("%d packets and connections came to a container", n)
	}
	order(`{"phase":4}`)
	f.empty()
}
