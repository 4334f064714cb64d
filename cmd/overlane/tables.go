package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/internal/plain"
	"github.com/overlane/overlane/networks"
	"github.com/overlane/overlane/overlay"
)

// writeTables writes a status for people. IDs are shortened as Docker does, drops that never happened are left out, and
// so are tables that would be empty.
func writeTables(out io.Writer, s overlay.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	tables := []func(io.Writer, overlay.Status){nodeTable, memberTable, networkTable, endpointTable, remoteTable, portTable, dropTable}
	if slices.ContainsFunc(s.Datapath.Tables, func(t datapath.TableStats) bool { return t.NearlyFull }) {
		tables = append(tables, fullTable)
	}
	if slices.ContainsFunc(s.Endpoints, func(e overlay.EndpointStatus) bool { return e.Reason != "" }) {
		tables = append(tables, unwellTable)
	}
	if len(s.Names.Failed) > 0 {
		tables = append(tables, namesTable)
	}
	if slices.ContainsFunc(s.Everywhere, func(n networks.State) bool { return n.Reason != "" }) {
		tables = append(tables, everywhereTable)
	}
	if len(s.Paths) > 0 {
		tables = append(tables, pathTable)
	}
	if len(s.Encryption) > 0 {
		tables = append(tables, encryptionTable)
	}
	if len(s.Pending) > 0 {
		tables = append(tables, pendingTable)
	}
	if len(s.Gossip.Rejected) > 0 {
		tables = append(tables, gossipTable)
	}
	if len(s.Conflicts) > 0 {
		tables = append(tables, conflictTable)
	}
	if len(s.Refused) > 0 {
		tables = append(tables, refusedTable)
	}
	for i, table := range tables {
		if i > 0 {
			fmt.Fprintln(w)
		}
		table(w, s)
	}
	return w.Flush()
}

func row(w io.Writer, cells ...any) {
	texts := make([]string, len(cells))
	for i, cell := range cells {
		texts[i] = plain.Text(cmp.Or(fmt.Sprint(cell), "-")) // some are of other hosts
	}
	fmt.Fprintln(w, strings.Join(texts, "\t"))
}

func gossipOf(n overlay.NodeStatus) string {
	if n.Insecure {
		return fmt.Sprintf("%s, INSECURE: the cluster has no token (--insecure), and everybody who reaches this port is believed", n.Gossip)
	}
	return fmt.Sprintf("%s, encrypted", n.Gossip)
}

func antispoofOf(n overlay.NodeStatus) string {
	if n.Spoofable != "" {
		return "NOT IN FORCE, containers of this host can send forged VXLAN to other hosts: " + n.Spoofable
	}
	return "in force: containers can't pass for this host"
}

func nodeTable(w io.Writer, s overlay.Status) {
	n, d := s.Node, s.Datapath
	fmt.Fprintln(w, "NODE")
	row(w, "host", n.Host)
	row(w, "id", n.ID)
	row(w, "version", n.Version)
	row(w, "cluster", cmp.Or(n.Cluster, "none yet: it is made once this host has a network, or others beside it, and all members and all hosts of --join are up; the log says for whom it waits"))
	row(w, "up", time.Duration(n.UptimeSeconds)*time.Second)
	row(w, "VTEP", n.VTEP)
	row(w, "gossip", gossipOf(n))
	row(w, "antispoof", antispoofOf(n))
	row(w, "worker CPUs", workersOf(d))
	row(w, "packet buffers", fmt.Sprintf("%d of %d in use, hugepages: %s", d.MbufsInUse, d.MbufsTotal, yesNo(d.Hugepages)))
	row(w, "underlay", underlayOf(d))
	row(w, "names", namesOf(s.Names))
	row(w, "VXLAN", fmt.Sprintf("received %d packets, %d bytes; sent %d packets, %d bytes",
		d.Underlay.RxPackets, d.Underlay.RxBytes, d.Underlay.TxPackets, d.Underlay.TxBytes))
}

func workersOf(d datapath.Stats) string {
	if len(d.Stuck) > 0 {
		return fmt.Sprintf("%s; NOT RUNNING, so that packets wait: the worker of CPU %s", list(d.Workers), list(d.Stuck))
	}
	return list(d.Workers)
}

func underlayOf(d datapath.Stats) string {
	if d.Device == nil && d.Cut != "" {
		return "the kernel's UDP sockets; super-frames are cut up: " + d.Cut
	}
	if d.Device == nil && d.Whole == nil {
		return "the kernel's UDP sockets"
	}
	if d.Device == nil {
		return fmt.Sprintf("the kernel's UDP sockets, and tap %s for super-frames: %d left in one piece; it is used to %d of %d VTEPs",
			d.Whole.Tap, d.Whole.Packets, d.Whole.Ways, d.Whole.VTEPs)
	}
	return fmt.Sprintf("%s by %s, the kernel's interface %s, MTU %d; next hop known for %d of %d VTEPs; offloads: %s",
		d.Device.Name, d.Device.Driver, d.Device.Interface, d.Device.MTU, d.Device.NextHops, d.Device.VTEPs,
		cmp.Or(strings.Join(d.Device.Offloads, ", "), "none"))
}

func memberTable(w io.Writer, s overlay.Status) {
	row(w, "MEMBER", "STATE", "VTEP", "GOSSIP", "ID")
	for _, m := range s.Members {
		name := m.Host
		if m.Self {
			name += " (this host)"
		}
		row(w, name, m.State, address(m.VTEP), address(m.Gossip), short(m.ID))
	}
}

func writeMembers(out io.Writer, members []overlay.MemberStatus) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row(w, "MEMBER", "STATE", "VTEP", "GOSSIP", "ID", "BECAUSE", "NEXT STEP")
	for _, m := range members {
		row(w, m.Host, m.State, address(m.VTEP), address(m.Gossip), short(m.ID), m.Reason, m.Advice)
	}
	return w.Flush()
}

func writeRecords(out io.Writer, records []overlay.RecordStatus) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row(w, "ENDPOINT", "NETWORK", "ADDRESSES", "MAC", "HOST", "VTEP", "HIDDEN", "BECAUSE", "NEXT STEP")
	for _, r := range records {
		row(w, called(r.Names, r.ID), r.Network, addresses(r.Addrs, r.Extras), r.MAC, r.Host, r.VTEP, yesNo(r.Hidden), r.Reason, r.Advice)
	}
	return w.Flush()
}

// namesOf says how containers are found by name.
func namesOf(n overlay.NamesStatus) string {
	if n.Off != "" {
		return "off: " + n.Off
	}
	text := fmt.Sprintf("%d containers served, %d queries answered, %d passed on to Docker's server", n.Containers, n.Queries["answered"]+n.Queries["empty"], n.Queries["forwarded"])
	if n.Engine != "" {
		text += "; new containers of this host have none: " + n.Engine
	}
	return text
}

// namesTable lists containers whose queries go to Docker's server alone.
func namesTable(w io.Writer, s overlay.Status) {
	row(w, "NOT SERVED", "BECAUSE")
	for _, sandbox := range slices.Sorted(maps.Keys(s.Names.Failed)) {
		row(w, sandbox, s.Names.Failed[sandbox])
	}
}

func networkTable(w io.Writer, s overlay.Status) {
	row(w, "NETWORK", "KEY", "VNI", "ENCRYPTED", "MTU", "SUBNETS", "MEMBERS")
	for _, n := range s.Networks {
		row(w, cmp.Or(n.Name, short(n.ID)), n.Key, n.VNI, yesNo(n.Encrypted), n.MTU, list(n.Subnets), list(n.Members))
	}
}

func pathTable(w io.Writer, s overlay.Status) {
	row(w, "PATH TO", "VTEP", "MTU", "SUPER-FRAMES", "BECAUSE", "NEXT STEP")
	for _, p := range s.Paths {
		row(w, p.Host, p.VTEP, p.MTU, p.SuperFrames, p.Reason, p.Advice)
	}
}

// encryptionTable has the hosts to which packets go encrypted.
func encryptionTable(w io.Writer, s overlay.Status) {
	row(w, "ENCRYPTED TO", "VTEP", "CIPHER", "KEY'S AGE", "PACKETS", "BECAUSE", "NEXT STEP")
	for _, e := range s.Encryption {
		age := ""
		if e.Cipher != "" {
			age = (time.Duration(e.KeyAge) * time.Second).String()
		}
		row(w, e.Host, e.VTEP, e.Cipher, age, e.Packets, e.Reason, e.Advice)
	}
}

func endpointTable(w io.Writer, s overlay.Status) {
	row(w, "ENDPOINT", "NETWORK", "ADDRESSES", "MAC", "STATE", "PORT", "SANDBOX")
	for _, e := range s.Endpoints {
		row(w, called(e.Names, e.ID), e.Network, addresses(slices.Concat(e.Addrs, e.LinkLocal), e.Extras), e.MAC, e.State, portOf(e, s.Datapath.Ports), sandboxOf(e))
	}
}

// unwellTable has the containers whose interfaces somebody has changed.
func unwellTable(w io.Writer, s overlay.Status) {
	row(w, "CONTAINER", "NETWORK", "BECAUSE", "NEXT STEP")
	for _, e := range s.Endpoints {
		if e.Reason != "" {
			row(w, called(e.Names, e.ID), e.Network, e.Reason, e.Advice)
		}
	}
}

// sandboxOf says where an endpoint is.
func sandboxOf(e overlay.EndpointStatus) string {
	if e.Host != nil {
		return "this host itself"
	}
	return e.Sandbox
}

// portOf is an endpoint's tap, or whether its program is connected to the socket.
func portOf(e overlay.EndpointStatus, ports []datapath.PortStats) string {
	text := e.Tap
	if e.Native != nil {
		text = cmp.Or(e.Native.Kind, datapath.KindVhost) + " " + e.Native.Socket
		if slices.ContainsFunc(ports, func(p datapath.PortStats) bool { return p.Name == e.Tap && p.Connected }) {
			text += ", connected"
		} else {
			text += ", not connected"
		}
	}
	if !e.HasPort {
		text += " (no port)"
	}
	return text
}

func remoteTable(w io.Writer, s overlay.Status) {
	row(w, "REMOTE ENDPOINT", "NETWORK", "ADDRESSES", "MAC", "HOST", "VTEP", "HIDDEN")
	for _, e := range s.Remote {
		row(w, called(e.Names, e.ID), e.Network, addresses(e.Addrs, e.Extras), e.MAC, e.Host, e.VTEP, yesNo(e.Hidden))
	}
}

func portTable(w io.Writer, s overlay.Status) {
	row(w, "PORT", "KIND", "VNI", "MAC", "FROM CONTAINER", "BYTES", "BY TRUST", "TO CONTAINER", "BYTES")
	for _, p := range s.Datapath.Ports {
		row(w, p.Name, p.Kind, p.VNI, p.MAC, p.RxPackets, p.RxBytes, p.Trusted, p.TxPackets, p.TxBytes)
	}
}

func dropTable(w io.Writer, s overlay.Status) {
	row(w, "DROPPED", "PACKETS", "BECAUSE")
	for _, name := range slices.Sorted(maps.Keys(s.Datapath.Drops)) {
		if count := s.Datapath.Drops[name]; count > 0 {
			row(w, name, count, datapath.DropReason(name))
		}
	}
}

// fullTable lists the datapath's tables that have little room.
func fullTable(w io.Writer, s overlay.Status) {
	row(w, "NEARLY FULL", "ENTRIES", "CAPACITY", "NEXT STEP")
	for _, t := range s.Datapath.Tables {
		if t.NearlyFull {
			row(w, t.Name, t.Entries, t.Capacity, overlay.FullAdvice)
		}
	}
}

// pendingTable lists what could not be applied, and is tried again.
func pendingTable(w io.Writer, s overlay.Status) {
	row(w, "PENDING", "NETWORK", "TRIES", "NEXT TRY", "BECAUSE")
	for _, p := range s.Pending {
		row(w, p.What, p.Network, p.Tries, p.Next.Local().Format(time.TimeOnly), p.Reason)
	}
}

func gossipTable(w io.Writer, s overlay.Status) {
	row(w, "REJECTED GOSSIP", "MESSAGES")
	for _, name := range slices.Sorted(maps.Keys(s.Gossip.Rejected)) {
		row(w, name, s.Gossip.Rejected[name])
	}
}

func conflictTable(w io.Writer, s overlay.Status) {
	row(w, "CONFLICT", "NETWORK", "CLAIMED BY")
	for _, c := range s.Conflicts {
		row(w, c.Address, c.Network, list(c.Claims))
	}
}

func refusedTable(w io.Writer, s overlay.Status) {
	row(w, "REFUSED NETWORK", "VNI", "ENCRYPTED", "OF HOST", "BECAUSE OF", "VNI", "ENCRYPTED", "NEXT STEP")
	for _, r := range s.Refused {
		row(w, r.TheirKey, r.TheirVNI, yesNo(r.TheirEncrypted), r.TheirHost, r.Key, r.VNI, yesNo(r.Encrypted), r.Advice)
	}
}

// address is what is known of one: of a stranger it may be no more than the host's.
func address(a netip.AddrPort) string {
	switch {
	case !a.IsValid():
		return ""
	case a.Port() == 0:
		return a.Addr().String()
	}
	return a.String()
}

func list[T any](values []T) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = fmt.Sprint(v)
	}
	return strings.Join(texts, ",")
}

// addresses lists an endpoint's own, then its extra ones: +ADDRESS, or +ADDRESS@MAC where it is at one behind the endpoint.
func addresses(own []netip.Addr, extras []discovery.Extra) string {
	texts := []string{}
	for _, addr := range own {
		texts = append(texts, addr.String())
	}
	for _, x := range extras {
		text := "+" + x.Addr.String()
		if x.MAC != (discovery.MAC{}) {
			text += "@" + x.MAC.String()
		}
		texts = append(texts, text)
	}
	return list(texts)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// called is a container's own name, or the ID of its endpoint where that is not known.
func called(names, id string) string {
	own, _, _ := strings.Cut(names, " ")
	return cmp.Or(own, short(id))
}

// short is an ID as Docker shows it.
func short(id string) string { return id[:min(len(id), 12)] }

// everywhereTable has the networks that this host has otherwise than they are defined for all hosts.
func everywhereTable(w io.Writer, s overlay.Status) {
	row(w, "NETWORK EVERYWHERE", "HERE", "NOT AS DEFINED, BECAUSE")
	for _, n := range s.Everywhere {
		if n.Reason != "" {
			row(w, n.Name, yesNo(n.Present), n.Reason)
		}
	}
}

// pairs writes a map as KEY=VALUE, in order.
func pairs(m map[string]string) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		all = append(all, key+"="+m[key])
	}
	return strings.Join(all, " ")
}
