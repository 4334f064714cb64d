package discovery

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// read gives what the node's collector says, by name and labels.
func (n *testNode) read() map[string]float64 {
	n.t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(n.Cluster)
	families, err := registry.Gather()
	if err != nil {
		n.t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += fmt.Sprintf(" %s=%s", l.GetName(), l.GetValue())
			}
			values[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values
}

func TestMetricsTellWhatHappened(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		nodes := startThree(t, l.listen)
		a, b := nodes[0], nodes[1]
		b.Put(appKey, testEndpoint(2, 2))
		a.waitView(time.Second, 2, 3, 6)
		a.reject("malformed")
		got := a.read()
		for name, want := range map[string]float64{
			"overlane_members state=alive":                    3,
			"overlane_members state=dead":                     0,
			"overlane_records state=own":                      1,
			"overlane_records state=used":                     3,
			"overlane_records state=hidden":                   0,
			"overlane_versions_behind":                        0,
			"overlane_gossip_rejected_total reason=malformed": 1,
		} {
			if got[name] != want {
				t.Errorf("%s is %v, not %v", name, got[name], want)
			}
		}
		// A change may come with a whole set, whose age says nothing.
		for i := 3; got["overlane_convergence_seconds"] < 1 && i < 13; i++ {
			b.Put(appKey, testEndpoint(2, i))
			a.waitView(time.Second, 2, 1+i, 2+2*i)
			got = a.read()
		}
		for _, name := range []string{
			"overlane_convergence_seconds",
			"overlane_gossip_messages_total direction=in kind=delta",
			"overlane_gossip_messages_total direction=out kind=announce",
			"overlane_gossip_bytes_total direction=in kind=delta",
			"overlane_gossip_repairs_total",
		} {
			if got[name] < 1 {
				t.Errorf("%s is %v of %v", name, got[name], got)
			}
		}
	})
}

func TestVersionsBehindAreThoseKnownOfAndLacking(t *testing.T) {
	c, receive := twoNodes()
	receive(packet{announces: []announce{announced(2, 2)}, deltas: []delta{setDelta(7, 0, 2)}})
	receive(packet{deltas: []delta{setDelta(7, 5, 6)}})
	if _, _, behind := c.tally(c.now); behind != 4 {
		t.Errorf("%d versions behind, not 4", behind)
	}
	receive(packet{deltas: []delta{setDelta(7, 2, 6)}})
	if _, _, behind := c.tally(c.now); behind != 0 {
		t.Errorf("%d versions behind after what was missing came", behind)
	}
}

// A host that was set up anew, under its name and at its address, is no host that is down.
func TestReplacedNodeIsNotDown(t *testing.T) {
	c, _ := twoNodes()
	at := netip.MustParseAddrPort("192.0.2.9:4789")
	for id, host := range []string{3: "web", 4: "web", 5: "db"} {
		if host != "" {
			c.step(c.now, memberUpEvent{nodeID{byte(id)}, meta{host: host, vtep: at, incarnation: 1}, at})
		}
	}
	c.step(c.now, memberDownEvent{nodeID{3}})
	c.step(c.now, memberDownEvent{nodeID{5}})
	frozen := func(are bool) { c.owners[nodeID{3}].frozen, c.owners[nodeID{5}].frozen = are, are }
	frozen(true)
	if states, _, _ := c.tally(c.now); states[StateDead] != 2 {
		t.Errorf("states %v, while the records of nodes that are down stay in use", states)
	}
	frozen(false)
	replaced := map[string]bool{}
	for _, m := range c.members(c.now) {
		if m.Replaced {
			replaced[m.ID] = true
		}
	}
	states, _, _ := c.tally(c.now)
	if len(replaced) != 1 || !replaced[(nodeID{3}).String()] || states[StateDead] != 1 {
		t.Errorf("replaced %v, states %v; want the node of web that is down replaced, and db alone dead", replaced, states)
	}
}
