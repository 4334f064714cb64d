package hostnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// What keeps the networks that this host is attached to apart from all others.
//
// Docker has its hosts forward packets, so a container that is on no network of overlane's could route into one through a host that is
// attached to it, with the host's address by masquerading, and one on that network out of it. So nothing is forwarded from or to an
// attachment's interface. Linux takes packets for any of its addresses by any interface too: an attachment's address is reached by its
// own interface alone, and by that interface nothing but it.
//
// The rules are a table of nf_tables that this process owns (Linux 5.12): nobody else changes it, `nft flush ruleset` passes it over,
// and it goes with the process, however that ends. Without the process no packet comes or goes by the interface.

// fenceName is the table's. Its family is inet.
const fenceName = "overlane"

// tableOwner is NFT_TABLE_F_OWNER of linux/netfilter/nf_tables.h: the table is the socket's that made it.
const tableOwner = 0x2

// fencePriority is that of both chains: before translations (-100), which make another of an address, and before connection tracking (-200).
const fencePriority = -300

var (
	multicast       = netip.MustParsePrefix("ff00::/8")
	linkLocal       = netip.MustParsePrefix("fe80::/10")
	errNoTableOwner = errors.New("what keeps other networks' containers out can't be made: attachments want Linux 5.12 or later with nf_tables, and no table of that name that another program made (nft delete table inet overlane)")
)

// fence is the table as this process has it.
type fence struct {
	mu    sync.Mutex
	conn  *netlink.Conn // that owns it; nil: there is none
	inner []Interface   // that it is about
}

// Isolate keeps these interfaces apart from all other networks of the host, and no others any more.
func (h *Host) Isolate(interfaces []Interface) error {
	f := &h.fence
	f.mu.Lock()
	defer f.mu.Unlock()
	same := slices.EqualFunc(f.inner, interfaces, func(a, b Interface) bool { return a.Name == b.Name && slices.Equal(a.Addrs, b.Addrs) })
	switch {
	case len(interfaces) == 0:
		return f.close()
	case same && f.conn != nil:
		return nil
	}
	if f.conn == nil {
		conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
		if err != nil {
			return fmt.Errorf("nf_tables: %w", err)
		}
		f.conn = conn
	}
	if err := f.load(interfaces); err != nil {
		// Answers that are still to come are this socket's. With rules in force it is kept: they go with it.
		if f.inner == nil {
			f.close()
		} else {
			f.drain()
		}
		return fmt.Errorf("table inet %s: %w", fenceName, err)
	}
	f.inner = slices.Clone(interfaces)
	return nil
}

// drain reads what the kernel has still to say.
func (f *fence) drain() {
	for f.conn.SetReadDeadline(time.Now().Add(drainTime)) == nil {
		if _, err := f.conn.Receive(); errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
}

// drainTime is how long nothing must come for all to have come.
const drainTime = 100 * time.Millisecond

// close gives the table up.
func (f *fence) close() error {
	if f.conn == nil {
		return nil
	}
	err := f.conn.Close()
	f.conn, f.inner = nil, nil
	return err
}

// load has the kernel take the rules in place of those before, all of them or none.
func (f *fence) load(interfaces []Interface) error {
	b := batch{}
	b.begin()
	b.add(unix.NFT_MSG_NEWTABLE, netlink.Create, attrs{
		{Type: unix.NFTA_TABLE_NAME, Data: text(fenceName)}, {Type: unix.NFTA_TABLE_FLAGS, Data: number(tableOwner)},
	})
	b.chain("prerouting", nftables.ChainHookPrerouting)
	b.chain("forward", nftables.ChainHookForward)
	b.add(unix.NFT_MSG_DELRULE, 0, attrs{{Type: unix.NFTA_RULE_TABLE, Data: text(fenceName)}})
	for _, i := range interfaces {
		b.isolate(i)
	}
	b.end()
	if b.err != nil {
		return b.err
	}
	if _, err := f.conn.SendMessages(b.messages); err != nil {
		return err
	}
	return f.acknowledged(len(b.messages) - 2)
}

// answerTimeout is how long the kernel may take to answer. It answers at once, or, to a whole batch that it can't take, once.
const answerTimeout = 5 * time.Second

// acknowledged reads what the kernel says of so many messages. After an error it may say no more, and nobody waits for it.
func (f *fence) acknowledged(messages int) error {
	if err := f.conn.SetReadDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	for range messages {
		_, err := f.conn.Receive()
		switch {
		case err == nil:
		case errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.EPROTONOSUPPORT):
			return errNoTableOwner
		case errors.Is(err, os.ErrPermission):
			return fmt.Errorf("%w: another process has the table, or this one lacks CAP_NET_ADMIN", err)
		default:
			return err
		}
	}
	return nil
}

// attrs are attributes of a message.
type attrs []netlink.Attribute

func (a attrs) marshal() ([]byte, error) { return netlink.MarshalAttributes(a) }

// batch is messages that the kernel takes together.
type batch struct {
	messages []netlink.Message
	err      error
}

func (b *batch) begin() { b.mark(unix.NFNL_MSG_BATCH_BEGIN) }
func (b *batch) end()   { b.mark(unix.NFNL_MSG_BATCH_END) }

func (b *batch) mark(kind netlink.HeaderType) {
	b.messages = append(b.messages, netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request}, Data: header(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)})
}

func (b *batch) add(kind uint16, flags netlink.HeaderFlags, a attrs) {
	data, err := a.marshal()
	b.err = errors.Join(b.err, err)
	b.messages = append(b.messages, netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: netlink.Request | netlink.Acknowledge | flags},
		Data:   append(header(unix.NFPROTO_INET, 0), data...),
	})
}

func (b *batch) chain(name string, hook *nftables.ChainHook) {
	at, err := attrs{
		{Type: unix.NFTA_HOOK_HOOKNUM, Data: number(int32(*hook))}, {Type: unix.NFTA_HOOK_PRIORITY, Data: number(fencePriority)},
	}.marshal()
	b.err = errors.Join(b.err, err)
	b.add(unix.NFT_MSG_NEWCHAIN, netlink.Create, attrs{
		{Type: unix.NFTA_CHAIN_TABLE, Data: text(fenceName)}, {Type: unix.NFTA_CHAIN_NAME, Data: text(name)},
		{Type: unix.NLA_F_NESTED | unix.NFTA_CHAIN_HOOK, Data: at}, {Type: unix.NFTA_CHAIN_TYPE, Data: text("filter")},
	})
}

// isolate adds the rules for one interface.
func (b *batch) isolate(i Interface) {
	b.drop("forward", name(expr.MetaKeyIIFNAME, expr.CmpOpEq, i.Name))
	b.drop("forward", name(expr.MetaKeyOIFNAME, expr.CmpOpEq, i.Name))
	in, others := name(expr.MetaKeyIIFNAME, expr.CmpOpEq, i.Name), slices.Concat(name(expr.MetaKeyIIFNAME, expr.CmpOpNeq, i.Name), name(expr.MetaKeyIIFNAME, expr.CmpOpNeq, "lo"))
	own4, own6 := slices.Concat(in, family(unix.NFPROTO_IPV4)), slices.Concat(in, family(unix.NFPROTO_IPV6))
	has6 := false
	for _, p := range i.Addrs {
		addr := p.Addr()
		to := netip.PrefixFrom(addr, addr.BitLen())
		b.drop("prerouting", slices.Concat(others, familyOf(addr), destination(expr.CmpOpEq, to)))
		if addr.Is4() {
			own4 = slices.Concat(own4, destination(expr.CmpOpNeq, to))
		} else {
			own6, has6 = slices.Concat(own6, destination(expr.CmpOpNeq, to)), true
		}
	}
	b.drop("prerouting", own4)
	if has6 { // neighbours ask groups, and answer link-local addresses
		own6 = slices.Concat(own6, destination(expr.CmpOpNeq, multicast), destination(expr.CmpOpNeq, linkLocal))
	}
	b.drop("prerouting", own6)
}

// drop adds a rule that drops what all matches match.
func (b *batch) drop(chain string, matches []expr.Any) {
	var list attrs
	for _, e := range append(slices.Clone(matches), &expr.Verdict{Kind: expr.VerdictDrop}) {
		data, err := expr.Marshal(unix.NFPROTO_INET, e)
		b.err = errors.Join(b.err, err)
		list = append(list, netlink.Attribute{Type: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM, Data: data})
	}
	data, err := list.marshal()
	b.err = errors.Join(b.err, err)
	b.add(unix.NFT_MSG_NEWRULE, netlink.Create|netlink.Append, attrs{
		{Type: unix.NFTA_RULE_TABLE, Data: text(fenceName)}, {Type: unix.NFTA_RULE_CHAIN, Data: text(chain)},
		{Type: unix.NLA_F_NESTED | unix.NFTA_RULE_EXPRESSIONS, Data: data},
	})
}

// name matches an interface's name, or all others.
func name(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: padded}}
}

func familyOf(addr netip.Addr) []expr.Any {
	if addr.Is4() {
		return family(unix.NFPROTO_IPV4)
	}
	return family(unix.NFPROTO_IPV6)
}

func family(proto byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}}}
}

// destination compares a packet's with a prefix (RFC 791 section 3.1, RFC 8200 section 3).
func destination(op expr.CmpOp, p netip.Prefix) []expr.Any {
	offset := uint32(16)
	if p.Addr().Is6() {
		offset = 24
	}
	length := p.Addr().BitLen() / 8
	mask := make([]byte, length)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(length)},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(length), Mask: mask, Xor: make([]byte, length)},
		&expr.Cmp{Op: op, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

// header is struct nfgenmsg of linux/netfilter/nfnetlink.h.
func header(family byte, resource uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource)
}

func text(s string) []byte  { return append([]byte(s), 0) }
func number(n int32) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
