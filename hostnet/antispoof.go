package hostnet

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// What keeps containers from passing for their host.
//
// Docker masquerades what a container sends to the outside: it leaves with the host's address, and VXLAN with that source is taken by all other
// hosts. So this host forwards nothing to a VTEP or a gossip port of the cluster but what another host of it has sent. A container that sends with
// such a host's address is told by the way it comes: by a bridge, by which the host is not reached.
//
// Without the process, and so without its table, its containers can forge until the next one has started.

// antispoofName is the table's. Its family is inet.
const antispoofName = "overlane-antispoof"

// metaIIFKind is NFT_META_IIFKIND of linux/netfilter/nf_tables.h: what kind of device a packet came by, as rtnetlink calls it.
const metaIIFKind expr.MetaKey = 26

// antispoof is the table as this process has it.
type antispoof struct {
	mu    sync.Mutex
	table ownedTable
	ports []netip.AddrPort
}

// Antispoof has nothing but hosts of the cluster send to these ports of theirs, and of this one, through this host.
func (h *Host) Antispoof(ports []netip.AddrPort) error {
	a := &h.antispoof
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.table.loaded && slices.Equal(ports, a.ports) {
		return nil
	}
	err := a.table.replace(antispoofName, func(b *batch) {
		b.antispoof(ports, unix.NFPROTO_IPV4, 4)
		b.antispoof(ports, unix.NFPROTO_IPV6, 16)
	})
	if err == nil {
		a.ports = slices.Clone(ports)
	}
	return err
}

// antispoof adds the sets and rules of one family, whose addresses have so many bytes.
func (b *batch) antispoof(ports []netip.AddrPort, proto byte, size int) {
	services, hosts := set{name: "v" + versions[proto] + "-ports"}, set{name: "v" + versions[proto] + "-hosts"}
	known := map[netip.Addr]bool{}
	for _, p := range ports {
		addr := p.Addr().AsSlice()
		if len(addr) != size {
			continue
		}
		services.keys = append(services.keys, append(binary.BigEndian.AppendUint16(slices.Clone(addr), p.Port()), 0, 0)) // in units of 4 bytes
		if !known[p.Addr()] {
			known[p.Addr()] = true
			hosts.keys = append(hosts.keys, addr)
		}
	}
	b.set(services, addressType[proto]<<concatBits|serviceType, size+4)
	b.set(hosts, addressType[proto], size)
	for _, transport := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		to := slices.Concat(
			[]expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{transport}}},
			family(proto),
			addressAndPort(size, services.name))
		b.drop("prerouting", slices.Concat(name(metaIIFKind, expr.CmpOpEq, "bridge"), to, []expr.Any{
			&expr.Fib{Register: 1, ResultOIF: true, FlagSADDR: true, FlagIIF: true, FlagPRESENT: true},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0}},
		}))
		b.drop("forward", slices.Concat(to, []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: sourceOffset[proto], Len: uint32(size)},
			&expr.Lookup{SourceRegister: 1, SetName: hosts.name, Invert: true},
		}))
	}
}

// Types of keys as nft numbers them (enum datatypes of its datatype.h).
const (
	serviceType = 13 // inet_service
	concatBits  = 6
)

var addressType = map[byte]int32{unix.NFPROTO_IPV4: 7, unix.NFPROTO_IPV6: 8}

var versions = map[byte]string{unix.NFPROTO_IPV4: "4", unix.NFPROTO_IPV6: "6"}

// sourceOffset is where a packet's source stands (RFC 791 section 3.1, RFC 8200 section 3); its destination follows.
var sourceOffset = map[byte]uint32{unix.NFPROTO_IPV4: 12, unix.NFPROTO_IPV6: 8}

// addressAndPort looks a packet's destination up in a set.
func addressAndPort(size int, in string) []expr.Any {
	const port32 = 9 // NFT_REG32_01 of linux/netfilter/nf_tables.h: behind the 4 bytes of an address in register 1
	proto, port := byte(unix.NFPROTO_IPV4), uint32(port32)
	if size > 4 {
		proto, port = unix.NFPROTO_IPV6, 2
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: sourceOffset[proto] + uint32(size), Len: uint32(size)},
		&expr.Payload{DestRegister: port, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: 1, SetName: in},
	}
}
