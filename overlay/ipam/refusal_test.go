package ipam

import (
	"net/netip"
	"testing"
)

// Who asks for an address that can't be had is told which one, why, and what to do instead.
func TestRefusedAddress(t *testing.T) {
	const mac = "02:00:00:00:00:01"
	for name, tc := range map[string]struct {
		prepare func(*core, *pool)
		request Request
		want    string
	}{
		"in use here": {func(c *core, p *pool) { p.used[3] = lease{MAC: "02:00:00:00:00:02", At: c.now} }, exact("10.20.0.3", mac),
			"address 10.20.0.3: is in use on this host: choose another --ip, or remove the container that has it"},
		"in use there": {func(c *core, p *pool) { p.peer("b").held = map[uint64]bool{3: true} }, exact("10.20.0.3", mac),
			"address 10.20.0.3: is in use on host host-b: choose another --ip, or remove the container that has it"},
		"the gateway": {given(3, 3, ownerGateway), exact("10.20.0.3", mac),
			"address 10.20.0.3: is the network's gateway: choose another --ip"},
		"reserved": {given(3, 3, ownerReserved), exact("10.20.0.3", mac),
			"address 10.20.0.3: is the network's reserved address (--aux-address): choose another --ip"},
		"of a host that is down": {func(*core, *pool) {}, exact("10.20.0.23", mac),
			"address 10.20.0.23: belongs to host host-c, which is down, and host host-b, which has to confirm that, does not: choose another --ip, or try again"},
		"of a host that is down, with nobody else": {func(c *core, p *pool) { c.meet(nil, map[string]string{"c": "host-c"}) }, exact("10.20.0.23", mac),
			"address 10.20.0.23: belongs to host host-c, which is down, and no third host is up to say that it is not this one that is cut off: choose another --ip or, if its container there does not run any more, run `overlane ipam take 10.20.0.23` here"},
		"of a host that is down, like another": {func(c *core, p *pool) {
			c.meet(map[string]string{"b": "host-b"}, map[string]string{"c": "host-c", "d": "host-d"})
		}, exact("10.20.0.23", mac),
			"address 10.20.0.23: belongs to host host-c, which is down, and so is host host-d, so that this one may be cut off: choose another --ip or, if its container there does not run any more, run `overlane ipam take 10.20.0.23` here"},
		"gateway of a host that is down": {func(*core, *pool) {}, Request{Addr: netip.MustParseAddr("10.20.0.23"), Gateway: true},
			"address 10.20.0.23: belongs to host host-c, which is down: choose another --gateway, or if host-c is lost for good, run `overlane ipam reclaim host-c`"},
		"of a host under a former name": {given(3, 3, "b.0"), exact("10.20.0.3", mac),
			"address 10.20.0.3: belongs to host host-b, which has forgotten that since: choose another --ip, or if host-c is lost for good, run `overlane ipam reclaim host-b host-c`"},
		"of this host under a former name": {func(c *core, p *pool) {
			given(3, 3, "a.0")(c, p)
			given(21, 30, "b.1")(c, p)
			c.meet(map[string]string{"b": "host-b"}, nil)
		}, exact("10.20.0.3", mac),
			"address 10.20.0.3: belongs to host a, which has forgotten that since: choose another --ip, or run `overlane ipam reclaim a`"},
		"of a host that is silent": {func(*core, *pool) {}, exact("10.20.0.13", mac),
			"address 10.20.0.13: belongs to host host-b, which does not answer: choose another --ip, or try again"},
		"of a host that was silent before": {func(c *core, p *pool) { c.ask(p, "b.1", ask{First: 1, Last: 20}) }, exact("10.20.0.13", ""),
			"address 10.20.0.13: belongs to host host-b, which does not answer: choose another --aux-address, or try again"},
		"gateway in use here": {func(c *core, p *pool) { p.used[3] = lease{MAC: mac, At: c.now} }, Request{Addr: netip.MustParseAddr("10.20.0.3"), Gateway: true},
			"gateway 10.20.0.3: a container on this host has the address: give another"},
		"gateway in use there": {func(c *core, p *pool) { p.peer("b").held = map[uint64]bool{3: true} }, Request{Addr: netip.MustParseAddr("10.20.0.3"), Gateway: true},
			"gateway 10.20.0.3: a container on host host-b has the address: give another"},
		"gateway reserved": {given(3, 3, ownerReserved), Request{Addr: netip.MustParseAddr("10.20.0.3"), Gateway: true},
			"gateway 10.20.0.3: is the network's reserved address (--aux-address): give another"},
		"reserved is the gateway": {given(3, 3, ownerGateway), exact("10.20.0.3", ""),
			"aux-address 10.20.0.3: is the network's gateway: give another"},
		"another gateway": {given(1, 1, ownerGateway), Request{Addr: netip.MustParseAddr("10.20.0.3"), Gateway: true},
			"gateway 10.20.0.3: the network has gateway 10.20.0.1 on its other hosts: give --gateway 10.20.0.1, or none"},
		"was away": {func(c *core, p *pool) { c.wake() }, Request{MAC: mac},
			"subnet 10.20.0.0/24: this host was away, and has yet to hear from host-b what changed meanwhile: try again"},
		"all of a host that is silent": {given(1, 10, "b.1"), Request{MAC: mac},
			"subnet 10.20.0.0/24 has no free address: host host-b 20, and it does not answer; host host-c 10, and it is down: try again, or see `overlane status members` on host-b"},
		"all of two hosts that are silent": {func(c *core, p *pool) {
			given(1, 10, "b.1")(c, p)
			c.meet(map[string]string{"b": "host-b", "c": "host-c"}, nil)
			says(c, p, "c", p.hash)
		}, Request{MAC: mac},
			"subnet 10.20.0.0/24 has no free address: host host-b 20, and it does not answer; host host-c 10, and it does not answer: try again, or see `overlane status members` on host-c"},
		"none left": {given(1, 20, "c.1"), Request{MAC: mac},
			"subnet 10.20.0.0/24 has no free address: host host-c 30, and it is down: if host-c is lost for good, run `overlane ipam reclaim host-c`"},
		"none left, of two that are down": {func(c *core, p *pool) {
			given(1, 20, "c.1")(c, p)
			given(16, 20, "d.1")(c, p)
			c.meet(map[string]string{"b": "host-b"}, map[string]string{"c": "host-c", "d": "host-d"})
		}, Request{MAC: mac},
			"subnet 10.20.0.0/24 has no free address: host host-c 25, and it is down; host host-d 5, and it is down: if host-c, host-d are lost for good, all of them, run `overlane ipam reclaim host-c host-d`"},
	} {
		t.Run(name, func(t *testing.T) {
			c, p := testCore("a.1", "b.1", "c.1")
			c.meet(map[string]string{"b": "host-b"}, map[string]string{"c": "host-c"})
			says(c, p, "b", p.hash)
			tc.prepare(c, p)
			got := c.outcome(func(done func(error)) {
				c.request(p.id, tc.request, func(_ netip.Addr, err error) { done(err) })
			})
			if got != tc.want {
				t.Errorf("refused with %q, want %q", got, tc.want)
			}
		})
	}
}

// given has the table give a span to another owner.
func given(first, last uint64, owner string) func(*core, *pool) {
	return func(_ *core, p *pool) {
		p.Table = merge(p.Table, p.Table.given(first, last, owner, 0))
		p.count()
	}
}

func exact(addr, mac string) Request { return Request{Addr: netip.MustParseAddr(addr), MAC: mac} }

// The owner of an address may have it in use unseen: what it answers is what the user reads.
func TestRefusedByTheOwner(t *testing.T) {
	c, p := testCore("a.1", "b.1")
	c.meet(map[string]string{"b": "host-b"}, nil)
	says(c, p, "b", p.hash)
	var why error
	c.step(c.now, func() {
		c.request(p.id, exact("10.20.0.13", "02:00:00:00:00:01"), func(_ netip.Addr, err error) { why = err })
	})
	asked := p.waiting[0].question.ID
	out := c.step(c.now, func() {
		o := p.Origin
		deliver(c, "b", &message{Key: p.Key, Subnet: p.Subnet, Host: "host-b", Heard: heard(c), Owner: "b.1", Member: true, Origin: &o, Hash: p.hash, Answer: &answer{ID: asked, Why: "it is in use there"}})
	})
	for _, done := range out.done {
		done(nil)
	}
	want := "address 10.20.0.13: host host-b has it: it is in use there: choose another --ip, or remove the container that has it"
	if why == nil || why.Error() != want {
		t.Errorf("refused with %v, want %q", why, want)
	}
}
