package connectivity

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/overlay"
)

// Result is what a test found: the JSON of `overlane connectivity -o json`.
type Result struct {
	OK      bool         `json:"ok"`
	Network string       `json:"network"` // key
	Own     bool         `json:"own"`     // it was made for the test
	Seconds float64      `json:"seconds"`
	Sample  int          `json:"sample,omitempty"` // with so many others each host chose to be tested; 0: with all
	Hosts   []HostResult `json:"hosts"`
	Pairs   []PairResult `json:"pairs"`
}

// HostResult is what was found on a host.
type HostResult struct {
	ID     string       `json:"id"`
	Host   string       `json:"host"`
	Tested bool         `json:"tested"`
	Absent bool         `json:"absent"` // it has no part in the network
	Addrs  []netip.Addr `json:"addrs,omitempty"`
	MTU    int          `json:"mtu,omitempty"`
	overlay.Health
	Drops  map[string]uint64 `json:"drops,omitempty"`  // packets of any container that were dropped meanwhile
	Unwell []overlay.Problem `json:"unwell,omitempty"` // containers whose interfaces somebody has changed
	// So many are not listed.
	MoreUnwell int `json:"more_unwell,omitempty"`
	// Why containers have no names, which fails no test: no Docker's socket may be meant.
	Unnamed string `json:"unnamed,omitempty"`
}

// PairResult is what a host found as it tried to reach another.
type PairResult struct {
	FromID string  `json:"from_id"`
	From   string  `json:"from"`
	ToID   string  `json:"to_id"`
	To     string  `json:"to"`
	OK     bool    `json:"ok"`
	Checks []Check `json:"checks"`
	overlay.Health
}

// result puts together what the hosts have told.
func (l *lead) result(took time.Duration) Result {
	r := Result{OK: true, Seconds: took.Seconds(), Own: true, Hosts: []HostResult{}, Pairs: []PairResult{}}
	tested := l.inTest()
	if len(tested) > everyPair {
		r.Sample = some
	}
	for _, h := range tested {
		if r.Network = cmp.Or(r.Network, l.said[h.ID].Network); r.Network != overlay.OwnKey(ownName(l.test)) {
			r.Own = false
		}
		l.late(h)
	}
	at := map[string]*host{}
	now := map[string]discovery.State{}
	for _, m := range l.c.Members() {
		now[m.ID] = m.State
	}
	for _, h := range l.hosts {
		said := l.said[h.ID]
		r.Hosts = append(r.Hosts, HostResult{h.ID, h.Host, h.tested(), h.absent, said.Addrs, said.MTU, h.Health, said.Drops, said.Unwell, said.MoreUnwell, said.Unnamed})
		r.OK = r.OK && (h.tested() || h.absent) && len(said.Unwell) == 0
		h.State = now[h.ID]
		at[h.ID] = h
	}
	for _, h := range tested {
		for _, f := range l.said[h.ID].Peers {
			if at[f.ID] == nil {
				continue
			}
			p := l.judge(h, at[f.ID], f)
			r.OK = r.OK && p.OK
			r.Pairs = append(r.Pairs, p)
		}
	}
	slices.SortFunc(r.Pairs, func(a, b PairResult) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	return r
}

// late says of a host that has not told what it found why.
func (l *lead) late(h *host) {
	said := l.said[h.ID]
	switch {
	case said.Error != "":
		h.Health = overlay.Health{Reason: said.Error, Advice: "see overlane's log there"}
	case said.Phase < collect && l.heard[h.ID]:
		h.Health = overlay.Health{
			Reason: fmt.Sprintf("it answers, and had not finished after %v: %d of %d others tested", runTime+collectTime, said.Tested, h.others),
			Advice: "look at that host's load, and at overlane's log there",
		}
	case said.Phase < collect:
		h.Health = l.silence(h)
	}
}

// judge says how a host reaches another, and why not.
func (l *lead) judge(from, to *host, f found) PairResult {
	p := PairResult{FromID: from.ID, From: from.Host, ToID: to.ID, To: to.Host, OK: true, Checks: f.Checks}
	for _, c := range f.Checks {
		p.OK = p.OK && (c.OK || c.Skipped != "")
	}
	if p.OK {
		return p
	}
	e := evidence{from: from, to: to, there: l.said[from.ID], back: l.said[to.ID], found: f}
	for _, b := range e.back.Peers {
		if b.ID == from.ID {
			e.reverse = b
		}
	}
	p.Health = e.cause()
	return p
}

// evidence is what is known of a pair that fails.
type evidence struct {
	from, to    *host
	there, back report // of from, and of to
	found       found  // what from has found
	reverse     found  // what to has found
}

// failed says whether a check failed, of either version of IP.
func (e *evidence) failed(name string) bool {
	return slices.ContainsFunc(e.found.Checks, func(c Check) bool { return (c.Name == name || c.Name == name+"6") && c.Problem != "" })
}

// passed likewise.
func (e *evidence) passed(name string) bool {
	return slices.ContainsFunc(e.found.Checks, func(c Check) bool { return (c.Name == name || c.Name == name+"6") && c.OK })
}

// problem is the first of a check.
func (e *evidence) problem(name string) string {
	for _, c := range e.found.Checks {
		if (c.Name == name || c.Name == name+"6") && c.Problem != "" {
			return c.Problem
		}
	}
	return ""
}

// cause names the most likely one, beginning with what explains all.
func (e *evidence) cause() overlay.Health {
	for _, look := range []func() overlay.Health{e.down, e.unknown, e.noKey, e.worker, e.lost, e.sizes, e.translated, e.partly, e.name, e.egress} {
		if h := look(); h.Reason != "" {
			return h
		}
	}
	return overlay.Health{Reason: "the cause is not known", Advice: fmt.Sprintf("see what %s and %s have dropped meanwhile, and run `overlane check` on both", e.from.Host, e.to.Host)}
}

// silent says that nothing at all comes back.
func (e *evidence) silent() bool { return !e.passed("udp") && !e.passed("ping") && !e.passed("tcp") }

func (e *evidence) down() overlay.Health {
	for _, h := range []*host{e.to, e.from} {
		if e.silent() && h.State != discovery.StateAlive {
			return overlay.Health{Reason: fmt.Sprintf("%s is %s", h.Host, h.State), Advice: "see what `overlane status members` says of it"}
		}
	}
	if e.silent() && e.to.Reason != "" {
		return overlay.Health{Reason: fmt.Sprintf("%s: %s", e.to.Host, e.to.Reason), Advice: e.to.Advice}
	}
	return overlay.Health{}
}

// unknown is a record that is not there, or not in force.
func (e *evidence) unknown() overlay.Health {
	if !e.silent() {
		return overlay.Health{}
	}
	for _, way := range []struct {
		on, of *host
		report report
		found  found
	}{{e.from, e.to, e.there, e.found}, {e.to, e.from, e.back, e.reverse}} {
		switch {
		case way.found.Otherwise.Reason != "":
			return way.found.Otherwise
		case len(way.report.Unapplied) > 0:
			return overlay.Health{Reason: fmt.Sprintf("on %s it is not in force: %s", way.on.Host, way.report.Unapplied[0]), Advice: "see the table PENDING of `overlane status` there"}
		case way.found.ID != "" && !way.found.Announced:
			return overlay.Health{Reason: fmt.Sprintf("%s has not heard of an endpoint on %s by gossip", way.on.Host, way.of.Host), Advice: "see what `overlane status members` says on both"}
		}
	}
	return overlay.Health{}
}

func (e *evidence) noKey() overlay.Health {
	for _, way := range []struct {
		on, of *host
		found  found
	}{{e.from, e.to, e.found}, {e.to, e.from, e.reverse}} {
		if e.silent() && way.found.NoKey != "" {
			return overlay.Health{Reason: fmt.Sprintf("the network is encrypted, and %s has no key for %s: %s", way.on.Host, way.of.Host, way.found.NoKey), Advice: "see the table ENCRYPTED TO of `overlane status` there"}
		}
	}
	return overlay.Health{}
}

// worker is one that takes nothing from a container.
func (e *evidence) worker() overlay.Health {
	for _, way := range []struct {
		on     *host
		report report
	}{{e.from, e.there}, {e.to, e.back}} {
		if e.silent() && way.report.Phase >= collect && way.report.Sent == 0 {
			return overlay.Health{Reason: fmt.Sprintf("the packet workers of %s take no packets from containers", way.on.Host), Advice: "restart overlane there: containers keep running. `overlane bugreport` before that says why"}
		}
	}
	return overlay.Health{}
}

// way is one direction of a pair, by what both hosts have counted.
type way struct {
	on, to     *host
	sent, came uint64 // packets of VXLAN
	lost       bool   // some of these, by their bytes
	sends      report // of on
	takes      report // of to
}

// ways are both directions; none where one of the hosts has not told.
func (e *evidence) ways() []way {
	if e.reverse.ID == "" {
		return nil
	}
	return []way{
		{e.from, e.to, e.found.Sent, e.reverse.Received, lossy(e.found.SentBytes, e.reverse.ReceivedBytes), e.there, e.back},
		{e.to, e.from, e.reverse.Sent, e.found.Received, lossy(e.reverse.SentBytes, e.found.ReceivedBytes), e.back, e.there},
	}
}

// lossy says whether fewer bytes came than were sent. A super-frame that comes whole has its headers once, which is less by 8 % at most with an MTU of 1280, and
// counts as one packet.
func lossy(sent, came uint64) bool { return came < sent*9/10 }

// foreign says that a host has dropped about as many packets of no host's VTEP as it lacks of the other's. They may be somebody else's: no more is
// counted than how many there were.
func (w way) foreign() bool {
	dropped := w.takes.Drops["vtep_unknown"]
	return dropped > 0 && dropped >= (w.sent-min(w.came, w.sent))/2
}

// port has the firewalls looked at in one direction.
func (w way) port() string {
	return fmt.Sprintf("let the firewalls of both hosts and between them pass UDP from %s to %s port %d: `overlane check` on %s names the rule, where it is there", w.on.VTEP.Addr(), w.to.VTEP.Addr(), w.to.VTEP.Port(), w.to.Host)
}

// translated is what comes from an address that is not its sender's, of some flows at least, or is lost beside what strangers send.
func (e *evidence) translated() overlay.Health {
	for _, w := range e.ways() {
		if w.lost && w.foreign() {
			return overlay.Health{
				Reason: fmt.Sprintf("packets of %s come to %s from another address than %s, its VTEP, or get lost: of %d packets %d came, and %s dropped %d from addresses that are no host's, which may be strangers'",
					w.on.Host, w.to.Host, w.on.VTEP.Addr(), w.sent, w.came, w.to.Host, w.takes.Drops["vtep_unknown"]),
				Advice: fmt.Sprintf("run `overlane check` on %s: address translation between the hosts, or a wrong --advertise; if it is none of these, %s", w.on.Host, w.port()),
			}
		}
	}
	return overlay.Health{}
}

// lost is where all packets get lost between two hosts.
func (e *evidence) lost() overlay.Health {
	if !e.silent() {
		return overlay.Health{}
	}
	for i, w := range e.ways() {
		switch {
		case w.sent == 0 && i == 0:
			return overlay.Health{Reason: fmt.Sprintf("%s sends %s nothing%s", w.on.Host, w.to.Host, because(w.sends.Drops)), Advice: "see the table PATH TO of `overlane status` there"}
		case w.sent > 0 && w.came == 0 && w.foreign():
			return e.translated()
		case w.sent > 0 && w.came == 0:
			return overlay.Health{Reason: fmt.Sprintf("UDP port %d does not pass from %s to %s: of %d packets none came. A firewall?", w.to.VTEP.Port(), w.on.Host, w.to.Host, w.sent),
				Advice: w.port()}
		}
	}
	for _, w := range e.ways() {
		if reason := because(w.takes.Drops); reason != "" {
			return overlay.Health{Reason: fmt.Sprintf("packets of %s come to %s, and are dropped there%s", w.on.Host, w.to.Host, reason), Advice: "see docs/operations.md on what each name means"}
		}
	}
	return overlay.Health{}
}

// sizes is a path that carries less than the interfaces do.
func (e *evidence) sizes() overlay.Health {
	if !e.passed("udp") || !e.failed("mtu") || e.found.Largest == 0 {
		return overlay.Health{}
	}
	return overlay.Health{
		Reason: fmt.Sprintf("small packets pass, longer ones do not: %s. Something between the hosts carries less than the VTEPs' devices (MTU)", e.problem("mtu")),
		Advice: fmt.Sprintf("see `firewall` and `path to` in `overlane check` on both: a rule may drop long packets, and `path to` be well; raise the MTU of what lies between, or make the networks with -o %s=%d", overlay.OptionMTU, e.found.Largest),
	}
}

// partly is what gets through in part.
func (e *evidence) partly() overlay.Health {
	var lacking []string
	for _, name := range []string{"ping", "udp", "tcp", "mtu"} {
		if e.failed(name) {
			lacking = append(lacking, fmt.Sprintf("%s: %s", name, e.problem(name)))
		}
	}
	if len(lacking) == 0 || e.silent() {
		return overlay.Health{}
	}
	reason := lacking[0]
	for _, w := range e.ways() {
		if w.lost {
			reason += fmt.Sprintf("; much of what %s sends %s gets lost", w.on.Host, w.to.Host)
		}
	}
	return overlay.Health{Reason: reason + because(e.back.Drops), Advice: "see what the hosts have dropped meanwhile, and their load"}
}

func (e *evidence) name() overlay.Health {
	switch {
	case !e.failed("name"):
		return overlay.Health{}
	case e.there.NoNames != "":
		return overlay.Health{Reason: fmt.Sprintf("names are off on %s: %s", e.from.Host, e.there.NoNames), Advice: "see `names` in `overlane check` there"}
	}
	return overlay.Health{Reason: fmt.Sprintf("%s does not answer for names: %s", e.from.Host, e.problem("name")), Advice: "see `names` in `overlane status` there"}
}

// egress is Docker's: packets of it do not pass through overlane.
func (e *evidence) egress() overlay.Health {
	if !e.failed("egress") {
		return overlay.Health{}
	}
	return overlay.Health{
		Reason: fmt.Sprintf("containers of %s get no answer from %s through Docker's bridge, and %s itself does: their packets are not forwarded there, not translated, or a rule keeps them from the hosts", e.from.Host, e.to.VTEP.Addr(), e.from.Host),
		Advice: fmt.Sprintf("see `forwarding` in `overlane check` on %s, and its rules for docker_gwbridge: iptables -S FORWARD, iptables -t nat -S, or nft list ruleset", e.from.Host),
	}
}

// usual are reasons for which packets are dropped on a host that is well: new interfaces announce themselves, and ask for routers.
var usual = []string{"probe", "router_solicited", "nobody", "hairpin", "arp_unknown", "nd_unknown", "port_gone", "tap_down"}

// IsUsual says whether packets are dropped for a reason on a host that is well.
func IsUsual(drop string) bool { return slices.Contains(usual, drop) }

// because names what was dropped most of all; empty: nothing that is not usual.
func because(drops map[string]uint64) string {
	most := ""
	for _, name := range slices.Sorted(maps.Keys(drops)) {
		if !IsUsual(name) && (most == "" || drops[name] > drops[most]) {
			most = name
		}
	}
	if most == "" {
		return ""
	}
	return fmt.Sprintf(": %s, %s", most, datapath.DropReason(most))
}
