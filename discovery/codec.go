package discovery

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/overlane/overlane/discovery/internal/wire"
	"google.golang.org/protobuf/proto"
)

// protocolVersion is the first byte of every message and of the node's meta.
const protocolVersion = 1

// Limits of what is taken from the wire. A node keeps to them in what it sends.
const (
	maxMessage     = 4 << 20       // bytes
	maxIncarnation = 1<<62 - 1     // milliseconds since 1970, and above: see maxLead
	maxTime        = 1<<53 - 1     // milliseconds since 1970
	maxVersion     = 1<<53 - 1     // of sets and announcements
	maxVNI         = 1<<24 - 1     // RFC 7348 section 5
	maxKey         = 128           // bytes of a network key
	maxNetworks    = 4096          // one owner subscribes to
	maxEndpoints   = 16384         // of one owner in one network
	maxEndpointID  = 128           // bytes
	MaxAddrs       = 16            // of one endpoint
	maxHost        = 255           // bytes of a host name
	maxMeta        = 512           // bytes, memberlist's MetaMaxSize
	maxDown        = 7 * 24 * 3600 // seconds
)

// A rejection is why a message was not taken. The reason is the name it is
// counted by.
type rejection struct {
	reason string
	detail string
}

func (r *rejection) Error() string { return r.reason + ": " + r.detail }

func reject(reason, format string, args ...any) error {
	return &rejection{reason, fmt.Sprintf(format, args...)}
}

func encode(m proto.Message) ([]byte, error) {
	return proto.MarshalOptions{}.MarshalAppend([]byte{protocolVersion}, m)
}

func decode(b []byte, limit int, m proto.Message) error {
	if len(b) > limit {
		return reject("size", "%d bytes, at most %d", len(b), limit)
	}
	if len(b) == 0 || b[0] != protocolVersion {
		return reject("protocol", "the first byte is not %d", protocolVersion)
	}
	if err := proto.Unmarshal(b[1:], m); err != nil {
		return reject("malformed", "%v", err)
	}
	return nil
}

// meta is what every node knows of a member from membership alone.
type meta struct {
	host        string
	vtep        netip.AddrPort
	incarnation uint64
	keys        keys
	mtu         uint32 // 0: not known
	claim       claim
	whole       bool // it takes super-frames in one piece
	networks    bool // it takes messages about networks that are everywhere
	tests       bool // and about tests of connectivity
}

func encodeMeta(m meta) ([]byte, error) { return encode(wireMeta(m)) }

func wireMeta(m meta) *wire.Meta {
	w := &wire.Meta{Host: m.host, Vtep: encodeAddrPort(m.vtep), Incarnation: m.incarnation, Mtu: m.mtu, Cluster: encodeClaim(m.claim), Whole: m.whole, Networks: m.networks, Tests: m.tests}
	for _, f := range m.keys.list() {
		w.Keys = append(w.Keys, f[:])
	}
	return w
}

func decodeMeta(b []byte) (meta, error) {
	var w wire.Meta
	if err := decode(b, maxMeta, &w); err != nil {
		return meta{}, err
	}
	d := decoder{}
	m := d.meta(&w)
	return m, d.err
}

func (d *decoder) meta(w *wire.Meta) meta {
	m := meta{host: w.GetHost(), vtep: d.addrPort(w.GetVtep()), incarnation: d.incarnation(w.GetIncarnation()), mtu: w.GetMtu(), claim: d.claim(w.GetCluster()), whole: w.GetWhole(), networks: w.GetNetworks(), tests: w.GetTests()}
	if len(w.GetKeys()) > maxKeys {
		d.fail("keys", "%d, at most %d", len(w.Keys), maxKeys)
		return m
	}
	for i, f := range w.GetKeys() {
		if copy(m.keys[i][:], f) != len(f) || len(f) != len(m.keys[i]) || m.keys[i] == (Fingerprint{}) {
			d.fail("keys", "%x is no fingerprint", f)
		}
	}
	if len(m.host) > maxHost {
		d.fail("host", "%d bytes, at most %d", len(m.host), maxHost)
	}
	if d.err == nil && !m.vtep.IsValid() {
		d.fail("address", "no VTEP")
	}
	return m
}

func encodePacket(p *packet) ([]byte, error) {
	w := &wire.Packet{From: p.from[:], Address: encodeAddrPort(p.address), Cluster: encodeClaim(p.claim), Stream: p.stream, Heard: p.heard}
	for i := range p.announces {
		w.Announces = append(w.Announces, encodeAnnounce(&p.announces[i]))
	}
	for i := range p.deltas {
		w.Deltas = append(w.Deltas, encodeDelta(&p.deltas[i]))
	}
	for _, t := range p.wants {
		w.Wants = append(w.Wants, &wire.Want{Owner: t.owner[:], Incarnation: t.incarnation, Key: t.key, Have: t.have})
	}
	if p.digest != nil {
		w.Digest = &wire.Digest{Buckets: p.digest.buckets}
	}
	if p.versions != nil {
		w.Versions = encodeVersions(p.versions)
	}
	if g := p.greeting; g.instance != 0 {
		w.Greeting = &wire.Greeting{Instance: g.instance, Started: g.started, To: g.to, Host: g.host}
	}
	if p.relay != nil {
		w.Relay = &wire.Relay{First: p.relay.first[:], Last: p.relay.last[:]}
	}
	return encode(w)
}

func encodeAnnounce(a *announce) *wire.Announce {
	w := &wire.Announce{
		Owner:       a.owner[:],
		Incarnation: a.incarnation,
		Version:     a.version,
		Left:        a.left,
		DownSeconds: uint32(a.down / time.Second),
	}
	for _, p := range a.networks {
		w.Networks = append(w.Networks, &wire.AnnouncedNetwork{Key: p.Key, Vni: p.VNI, Since: p.since, Encrypted: p.Encrypted})
	}
	return w
}

func encodeDelta(d *delta) *wire.Delta {
	w := &wire.Delta{Owner: d.owner[:], Incarnation: d.incarnation, Key: d.key, From: d.from, To: d.to, Encrypted: d.encrypted}
	for _, e := range d.upserts {
		we := &wire.Endpoint{Id: e.ID, Mac: e.MAC[:], Seq: e.Seq, Names: e.Names}
		for _, a := range e.Addrs {
			we.Addrs = append(we.Addrs, a.AsSlice())
		}
		for _, x := range e.Extras {
			we.Extras = append(we.Extras, encodeExtra(x))
		}
		w.Upserts = append(w.Upserts, we)
	}
	if !d.made.IsZero() {
		w.Made = uint64(d.made.UnixMilli())
	}
	for i := range d.deletes {
		w.Deletes = append(w.Deletes, d.deletes[i][:])
	}
	return w
}

func encodeExtra(x Extra) *wire.Extra {
	w := &wire.Extra{Addr: x.Addr.AsSlice(), Seq: x.Seq}
	if x.MAC != (MAC{}) {
		w.Mac = x.MAC[:]
	}
	return w
}

func encodeVersions(v *versions) *wire.Versions {
	w := &wire.Versions{Buckets: uint32(len(v.complete))}
	for i, complete := range v.complete {
		if complete {
			w.Complete = append(w.Complete, uint32(i))
		}
	}
	for i := range v.owners {
		o := &v.owners[i]
		wo := &wire.OwnerVersions{Owner: o.owner[:], Incarnation: o.incarnation, Version: o.version}
		for _, s := range o.sets {
			wo.Sets = append(wo.Sets, &wire.SetVersion{Key: s.key, Version: s.version})
		}
		w.Owners = append(w.Owners, wo)
	}
	return w
}

// encodeClaim gives as many bytes for none as for an identity: a node of the
// version before sends no bytes.
func encodeClaim(c claim) []byte {
	if !c.known {
		return nil
	}
	return c.cluster[:]
}

func encodeAddrPort(a netip.AddrPort) []byte {
	if !a.IsValid() {
		return nil
	}
	b, _ := a.MarshalBinary() // never fails
	return b
}

// decodePacket reads a message that came from another node. Its error is a
// *rejection.
func decodePacket(b []byte) (*packet, error) {
	var w wire.Packet
	if err := decode(b, maxMessage, &w); err != nil {
		return nil, err
	}
	d := decoder{}
	p := &packet{
		from:      d.id(w.From),
		address:   d.addrPort(w.Address),
		claim:     d.claim(w.Cluster),
		announces: each(&d, w.Announces, d.announce),
		deltas:    each(&d, w.Deltas, d.delta),
		wants:     each(&d, w.Wants, d.want),
		greeting:  d.greeting(w.Greeting),
		stream:    w.Stream,
		heard:     w.Heard,
	}
	if w.Digest != nil {
		p.digest = d.digest(w.Digest)
	}
	if w.Versions != nil {
		p.versions = d.versions(w.Versions)
	}
	if w.Relay != nil {
		p.relay = &relay{d.id(w.Relay.First), d.id(w.Relay.Last)}
	}
	if d.err != nil {
		return nil, d.err
	}
	return p, nil
}

// decoder checks fields one by one and keeps the first rejection.
type decoder struct {
	err error
}

func (d *decoder) fail(reason, format string, args ...any) {
	if d.err == nil {
		d.err = reject(reason, format, args...)
	}
}

// each decodes a list up to the first rejection: what follows in a message that
// is not taken costs no more memory.
func each[W, T any](d *decoder, list []W, decode func(W) T) []T {
	var decoded []T
	for _, w := range list {
		if d.err != nil {
			return nil
		}
		decoded = append(decoded, decode(w))
	}
	return decoded
}

func (d *decoder) id(b []byte) (id nodeID) {
	if copy(id[:], b) != len(id) || len(b) != len(id) {
		d.fail("node_id", "%d bytes, not %d", len(b), len(id))
	}
	return id
}

func (d *decoder) claim(b []byte) (c claim) {
	if len(b) == 0 {
		return c
	}
	c.known = true
	if copy(c.cluster[:], b) != len(c.cluster) || len(b) != len(c.cluster) {
		d.fail("cluster_id", "%d bytes, not %d", len(b), len(c.cluster))
	}
	return c
}

func (d *decoder) incarnation(n uint64) uint64 {
	if n > maxIncarnation {
		d.fail("incarnation", "%d is above %d", n, uint64(maxIncarnation))
	}
	return n
}

func (d *decoder) time(ms uint64) time.Time {
	if ms > maxTime {
		d.fail("time", "%d ms after 1970", ms)
	}
	return time.UnixMilli(int64(ms))
}

func (d *decoder) version(n uint64) uint64 {
	if n > maxVersion {
		d.fail("version", "%d is above %d", n, uint64(maxVersion))
	}
	return n
}

func (d *decoder) optionalKey(key string) string {
	if len(key) > maxKey {
		d.fail("network_key", "%d bytes, at most %d", len(key), maxKey)
	}
	return key
}

func (d *decoder) key(key string) string {
	if key == "" {
		d.fail("network_key", "empty")
	}
	return d.optionalKey(key)
}

func (d *decoder) addrPort(b []byte) (a netip.AddrPort) {
	switch len(b) {
	case 0:
	case 6, 18:
		_ = a.UnmarshalBinary(b) // never fails at these lengths
		a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	default:
		d.fail("address", "%d bytes, not 6 or 18", len(b))
	}
	return a
}

func (d *decoder) addr(b []byte) netip.Addr {
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		d.fail("address", "%d bytes, not 4 or 16", len(b))
	}
	return a.Unmap()
}

func (d *decoder) mac(b []byte) (m MAC) {
	if copy(m[:], b) != len(m) || len(b) != len(m) {
		d.fail("mac", "%d bytes, not %d", len(b), len(m))
	}
	if m[0]&1 != 0 {
		d.fail("mac", "%s is a group address", m)
	}
	return m
}

func (d *decoder) announce(w *wire.Announce) announce {
	a := announce{
		owner:       d.id(w.GetOwner()),
		incarnation: d.incarnation(w.GetIncarnation()),
		version:     d.version(w.GetVersion()),
		left:        w.GetLeft(),
		down:        time.Duration(w.GetDownSeconds()) * time.Second,
	}
	if d.err != nil {
		return a
	}
	if w.DownSeconds > maxDown {
		d.fail("down", "%d s, at most %d", w.DownSeconds, maxDown)
	}
	if w.Left && len(w.Networks) > 0 {
		d.fail("networks", "%d of an owner that left", len(w.Networks))
	}
	if len(w.Networks) > maxNetworks {
		d.fail("networks", "%d, at most %d", len(w.Networks), maxNetworks)
		return a
	}
	a.networks = each(d, w.Networks, d.announcedNetwork)
	return a
}

func (d *decoder) announcedNetwork(w *wire.AnnouncedNetwork) announcedNetwork {
	if w.Vni < 1 || w.Vni > maxVNI {
		d.fail("vni", "%d is not from 1 to %d", w.Vni, maxVNI)
	}
	return announcedNetwork{Network{d.key(w.Key), w.Vni, w.Encrypted}, d.version(w.Since)}
}

func (d *decoder) want(w *wire.Want) want {
	return want{d.id(w.Owner), d.incarnation(w.Incarnation), d.optionalKey(w.Key), d.version(w.Have)}
}

func (d *decoder) delta(w *wire.Delta) delta {
	t := delta{
		owner:       d.id(w.Owner),
		incarnation: d.incarnation(w.Incarnation),
		key:         d.key(w.Key),
		encrypted:   w.Encrypted,
		from:        d.version(w.From),
		to:          d.version(w.To),
	}
	if w.Made > 0 {
		t.made = d.time(w.Made)
	}
	if t.from >= t.to {
		d.fail("delta", "from version %d to %d", t.from, t.to)
	}
	if len(w.Upserts) > maxEndpoints || len(w.Deletes) > maxRemoved {
		d.fail("endpoints", "%d and %d removals, at most %d and %d", len(w.Upserts), len(w.Deletes), maxEndpoints, maxRemoved)
		return t
	}
	t.upserts, t.deletes = each(d, w.Upserts, d.endpoint), each(d, w.Deletes, d.mac)
	return t
}

func (d *decoder) endpoint(w *wire.Endpoint) *Endpoint {
	e := &Endpoint{ID: w.Id, MAC: d.mac(w.Mac), Seq: w.Seq, Names: d.names(w.Names)}
	if len(e.ID) > maxEndpointID {
		d.fail("endpoint_id", "%d bytes, at most %d", len(e.ID), maxEndpointID)
	}
	if len(w.Addrs) > MaxAddrs {
		d.fail("addresses", "%d, at most %d", len(w.Addrs), MaxAddrs)
		return e
	}
	if len(w.Extras) > MaxExtras {
		d.fail("addresses", "%d extra ones, at most %d", len(w.Extras), MaxExtras)
		return e
	}
	e.Addrs, e.Extras = each(d, w.Addrs, d.addr), each(d, w.Extras, d.extra)
	return e
}

func (d *decoder) names(text string) string {
	if err := checkNames(text); err != nil {
		d.fail("names", "%v", err)
	}
	return text
}

// checkNames refuses what a terminal would obey.
func checkNames(text string) error {
	if len(text) > MaxNames {
		return fmt.Errorf("names of %d bytes, at most %d", len(text), MaxNames)
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
		return fmt.Errorf("names %q: byte %d is no printable ASCII", text, i)
	}
	return nil
}

func (d *decoder) extra(w *wire.Extra) Extra {
	x := Extra{Addr: d.addr(w.Addr), Seq: w.Seq}
	if len(w.Mac) > 0 {
		x.MAC = d.mac(w.Mac)
	}
	return x
}

func (d *decoder) digest(w *wire.Digest) *digest {
	if n := len(w.Buckets); n > maxBuckets {
		d.fail("digest", "%d buckets, at most %d", n, maxBuckets)
	}
	return &digest{buckets: w.Buckets}
}

func (d *decoder) versions(w *wire.Versions) *versions {
	v := &versions{}
	if w.Buckets > maxBuckets {
		d.fail("digest", "%d buckets, at most %d", w.Buckets, maxBuckets)
		return v
	}
	if w.Buckets > 0 {
		v.complete = make([]bool, w.Buckets)
	}
	for _, i := range w.Complete {
		if i >= w.Buckets {
			d.fail("digest", "bucket %d of %d", i, w.Buckets)
			return v
		}
		v.complete[i] = true
	}
	v.owners = each(d, w.Owners, d.ownerVersions)
	return v
}

func (d *decoder) ownerVersions(w *wire.OwnerVersions) ownerVersions {
	return ownerVersions{d.id(w.Owner), d.incarnation(w.Incarnation), d.version(w.Version), each(d, w.Sets, d.setVersion)}
}

func (d *decoder) setVersion(w *wire.SetVersion) setVersion {
	return setVersion{d.key(w.Key), d.version(w.Version)}
}
