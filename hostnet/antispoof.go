package hostnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What keeps containers from passing for their host.
//
// Docker masquerades what a container sends to the outside: it leaves with the host's address, and VXLAN with that source is taken by all other
// hosts. So of what comes by a bridge, as all of Docker's containers do, this host takes and forwards no VXLAN to a VTEP of the cluster but what
// another host of it sends, and that only where the bridge is the way to that host. What is switched from one port of a bridge to another, as between
// virtual machines, and passes these chains by br_netfilter, is none of that. Gossip needs no rule: it is authenticated by the cluster's key.
//
// Without the process, and so without its table, its containers can forge until the next one has started.

// antispoofName is the table's. Its family is inet.
const antispoofName = "overlane-antispoof"

// metaIIFKind is NFT_META_IIFKIND of linux/netfilter/nf_tables.h: what kind of device a packet came by, as rtnetlink calls it.
const metaIIFKind expr.MetaKey = 26

// antispoof is the table as this process has it.
type antispoof struct {
	mu      sync.Mutex
	table   ownedTable
	vteps   []netip.AddrPort
	bridges []int // indices of interfaces
}

// Antispoof has nothing but hosts of the cluster send VXLAN to these VTEPs, this host's among them, out of this host's bridges.
func (h *Host) Antispoof(vteps []netip.AddrPort) error {
	bridges, err := bridges()
	if err != nil {
		return err
	}
	a := &h.antispoof
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.table.loaded && slices.Equal(vteps, a.vteps) && slices.Equal(bridges, a.bridges) {
		return nil
	}
	err = a.table.replace(antispoofName, func(b *batch) {
		b.chain("input", nftables.ChainHookInput)
		b.chain("forward", nftables.ChainHookForward)
		b.passSwitched(bridges)
		b.antispoof(vteps, unix.NFPROTO_IPV4, 4)
		b.antispoof(vteps, unix.NFPROTO_IPV6, 16)
	})
	if err == nil {
		a.vteps, a.bridges = slices.Clone(vteps), bridges
	}
	return err
}

func bridges() (all []int, err error) {
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // what is missing is there with the next look
		return nil, fmt.Errorf("interfaces: %w", err)
	}
	for _, l := range links {
		if l.Type() == bridgeKind {
			all = append(all, l.Attrs().Index)
		}
	}
	slices.Sort(all)
	return all, nil
}

// bridgeKind is a bridge as rtnetlink calls it.
const bridgeKind = "bridge"

// passSwitched lets what leaves by the bridge that it came by.
func (b *batch) passSwitched(bridges []int) {
	same := set{name: "switched"}
	for _, i := range bridges {
		index := binary.NativeEndian.AppendUint32(nil, uint32(i))
		same.keys = append(same.keys, append(index, index...))
	}
	b.set(same, indexType<<concatBits|indexType, 8)
	b.rule("forward", []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIF, Register: 1}, &expr.Meta{Key: expr.MetaKeyOIF, Register: second32}, &expr.Lookup{SourceRegister: 1, SetName: same.name},
	}, expr.VerdictAccept)
}

// antispoof adds the sets and rules of one family, whose addresses have so many bytes.
func (b *batch) antispoof(vteps []netip.AddrPort, proto byte, size int) {
	services, hosts := set{name: "v" + versions[proto] + "-vteps"}, set{name: "v" + versions[proto] + "-hosts"}
	known := map[netip.Addr]bool{}
	for _, p := range vteps {
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
	vxlan := slices.Concat(
		name(metaIIFKind, expr.CmpOpEq, bridgeKind),
		[]expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_UDP}}},
		family(proto),
		addressAndPort(size, services.name))
	otherWay := slices.Concat(vxlan, []expr.Any{
		&expr.Fib{Register: 1, ResultOIF: true, FlagSADDR: true, FlagIIF: true, FlagPRESENT: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0}},
	})
	b.drop("input", otherWay)
	b.drop("forward", otherWay)
	b.drop("forward", slices.Concat(vxlan, []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: sourceOffset[proto], Len: uint32(size)},
		&expr.Lookup{SourceRegister: 1, SetName: hosts.name, Invert: true},
	}))
}

// Types of keys as nft numbers them (enum datatypes of its datatype.h).
const (
	serviceType = 13 // inet_service
	indexType   = 20 // iface_index
	concatBits  = 6
)

var addressType = map[byte]int32{unix.NFPROTO_IPV4: 7, unix.NFPROTO_IPV6: 8}

var versions = map[byte]string{unix.NFPROTO_IPV4: "4", unix.NFPROTO_IPV6: "6"}

// sourceOffset is where a packet's source stands (RFC 791 section 3.1, RFC 8200 section 3); its destination follows.
var sourceOffset = map[byte]uint32{unix.NFPROTO_IPV4: 12, unix.NFPROTO_IPV6: 8}

// second32 is NFT_REG32_01 of linux/netfilter/nf_tables.h: behind 4 bytes in register 1.
const second32 = 9

// addressAndPort looks a packet's destination up in a set.
func addressAndPort(size int, in string) []expr.Any {
	proto, port := byte(unix.NFPROTO_IPV4), uint32(second32)
	if size > 4 {
		proto, port = unix.NFPROTO_IPV6, 2
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: sourceOffset[proto] + uint32(size), Len: uint32(size)},
		&expr.Payload{DestRegister: port, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: 1, SetName: in},
	}
}
