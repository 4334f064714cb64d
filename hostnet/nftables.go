package hostnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Rules of overlane's in the host's firewall are tables of nf_tables that this process owns (Linux 5.12): nobody else changes one, `nft flush
// ruleset` passes it over, and it goes with the process, however that ends. github.com/google/nftables makes no such tables; its expressions are used.

// tableOwner is NFT_TABLE_F_OWNER of linux/netfilter/nf_tables.h: the table is the socket's that made it.
const tableOwner = 0x2

// chainPriority is that of all chains: before translations (-100), which make another of an address, and before connection tracking (-200).
const chainPriority = -300

// ownedTable is a table of family inet. The zero value is none.
type ownedTable struct {
	conn   *netlink.Conn // that owns it; nil: there is none
	loaded bool
}

// replace has the kernel take chains, rules and sets in place of those before, all of them or none.
func (t *ownedTable) replace(name string, fill func(*batch)) error {
	if t.conn == nil {
		conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
		if err != nil {
			return fmt.Errorf("nf_tables: %w", err)
		}
		t.conn = conn
		if err := conn.SetWriteBuffer(batchBytes); err != nil {
			return fmt.Errorf("nf_tables: %w", err)
		}
	}
	if err := t.load(name, fill); err != nil {
		// Answers that are still to come are this socket's. With rules in force it is kept: they go with it.
		if t.loaded {
			t.drain()
		} else {
			t.close()
		}
		return fmt.Errorf("table inet %s: %w", name, err)
	}
	t.loaded = true
	return nil
}

// batchBytes is what a batch may have: that for 4096 hosts of IPv6 with two ports each has under 1 MiB.
const batchBytes = 4 << 20

func (t *ownedTable) load(name string, fill func(*batch)) error {
	b := batch{table: name}
	b.begin()
	b.add(unix.NFT_MSG_NEWTABLE, netlink.Create, attrs{
		{Type: unix.NFTA_TABLE_NAME, Data: text(name)}, {Type: unix.NFTA_TABLE_FLAGS, Data: number(tableOwner)},
	})
	b.add(unix.NFT_MSG_DELRULE, 0, attrs{{Type: unix.NFTA_RULE_TABLE, Data: text(name)}})
	fill(&b)
	b.end()
	if b.err != nil {
		return b.err
	}
	if _, err := t.conn.SendMessages(b.messages); err != nil {
		return err
	}
	err := t.acknowledged(len(b.messages) - 2)
	switch {
	case errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.EPROTONOSUPPORT):
		return fmt.Errorf("it wants Linux 5.12 or later with nf_tables, and that no other program has made one of that name (nft delete table inet %s)", name)
	case errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("the kernel lacks a part of nf_tables (try modprobe nft_fib_inet): %w", err)
	}
	return err
}

// drain reads what the kernel has still to say.
func (t *ownedTable) drain() {
	for t.conn.SetReadDeadline(time.Now().Add(drainTime)) == nil {
		if _, err := t.conn.Receive(); errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
}

// drainTime is how long nothing must come for all to have come.
const drainTime = 100 * time.Millisecond

// close gives the table up.
func (t *ownedTable) close() error {
	if t.conn == nil {
		return nil
	}
	err := t.conn.Close()
	t.conn, t.loaded = nil, false
	return err
}

// answerTimeout is how long the kernel may take to answer. It answers at once, or, to a whole batch that it can't take, once.
const answerTimeout = 5 * time.Second

// acknowledged reads what the kernel says of so many messages. After an error it may say no more, and nobody waits for it.
func (t *ownedTable) acknowledged(messages int) error {
	if err := t.conn.SetReadDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	for range messages {
		_, err := t.conn.Receive()
		switch {
		case err == nil:
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
	table    string
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
		{Type: unix.NFTA_HOOK_HOOKNUM, Data: number(int32(*hook))}, {Type: unix.NFTA_HOOK_PRIORITY, Data: number(chainPriority)},
	}.marshal()
	b.err = errors.Join(b.err, err)
	b.add(unix.NFT_MSG_NEWCHAIN, netlink.Create, attrs{
		{Type: unix.NFTA_CHAIN_TABLE, Data: text(b.table)}, {Type: unix.NFTA_CHAIN_NAME, Data: text(name)},
		{Type: unix.NLA_F_NESTED | unix.NFTA_CHAIN_HOOK, Data: at}, {Type: unix.NFTA_CHAIN_TYPE, Data: text("filter")},
	})
}

// drop adds a rule that drops what all matches match.
func (b *batch) drop(chain string, matches []expr.Any) { b.rule(chain, matches, expr.VerdictDrop) }

// rule adds a rule of a verdict for what all matches match.
func (b *batch) rule(chain string, matches []expr.Any, verdict expr.VerdictKind) {
	var list attrs
	for _, e := range append(slices.Clone(matches), &expr.Verdict{Kind: verdict}) {
		data, err := expr.Marshal(unix.NFPROTO_INET, e)
		b.err = errors.Join(b.err, err)
		list = append(list, netlink.Attribute{Type: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM, Data: data})
	}
	data, err := list.marshal()
	b.err = errors.Join(b.err, err)
	b.add(unix.NFT_MSG_NEWRULE, netlink.Create|netlink.Append, attrs{
		{Type: unix.NFTA_RULE_TABLE, Data: text(b.table)}, {Type: unix.NFTA_RULE_CHAIN, Data: text(chain)},
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

// set is a set of keys of one length. What is in it is replaced as a whole.
type set struct {
	name string
	keys [][]byte
}

// elementsPerMessage keeps a list of elements below the 64 KiB that an attribute has (struct nlattr of linux/netlink.h).
const elementsPerMessage = 1000

// set adds a set, which has the same kind of keys each time. What kind is for `nft list` alone, of which newer versions (1.1.3) end where it
// is not told; the length is in bytes.
func (b *batch) set(s set, keyType int32, keyLength int) {
	b.add(unix.NFT_MSG_NEWSET, netlink.Create, attrs{
		{Type: unix.NFTA_SET_TABLE, Data: text(b.table)}, {Type: unix.NFTA_SET_NAME, Data: text(s.name)},
		{Type: unix.NFTA_SET_KEY_TYPE, Data: number(keyType)}, {Type: unix.NFTA_SET_KEY_LEN, Data: number(int32(keyLength))},
		{Type: unix.NFTA_SET_ID, Data: number(int32(len(b.messages)))},
	})
	which := attrs{{Type: unix.NFTA_SET_ELEM_LIST_TABLE, Data: text(b.table)}, {Type: unix.NFTA_SET_ELEM_LIST_SET, Data: text(s.name)}}
	b.add(unix.NFT_MSG_DELSETELEM, 0, which)
	for keys := range slices.Chunk(s.keys, elementsPerMessage) {
		var list attrs
		for _, key := range keys {
			list = append(list, netlink.Attribute{Type: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM, Data: b.nested(unix.NFTA_SET_ELEM_KEY, attrs{{Type: unix.NFTA_DATA_VALUE, Data: key}})})
		}
		data, err := list.marshal()
		b.err = errors.Join(b.err, err)
		b.add(unix.NFT_MSG_NEWSETELEM, netlink.Create, append(slices.Clone(which), netlink.Attribute{Type: unix.NLA_F_NESTED | unix.NFTA_SET_ELEM_LIST_ELEMENTS, Data: data}))
	}
}

// nested is one attribute with others in it.
func (b *batch) nested(kind uint16, a attrs) []byte {
	inner, err1 := a.marshal()
	outer, err2 := attrs{{Type: unix.NLA_F_NESTED | kind, Data: inner}}.marshal()
	b.err = errors.Join(b.err, err1, err2)
	return outer
}
