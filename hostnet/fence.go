package hostnet

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// What keeps the networks that this host is attached to apart from all others.
//
// Docker has its hosts forward packets, so a container that is on no network of overlane's could route into one through a host that is
// attached to it, with the host's address by masquerading, and one on that network out of it. So nothing is forwarded from or to an
// attachment's interface. Linux takes packets for any of its addresses by any interface too: an attachment's address is reached by its
// own interface alone, and by that interface nothing but it.
//
// Without the process, and so without its table, no packet comes or goes by the interface.

// fenceName is the table's. Its family is inet.
const fenceName = "overlane"

var (
	multicast = netip.MustParsePrefix("ff00::/8")
	linkLocal = netip.MustParsePrefix("fe80::/10")
)

// fence is the table as this process has it.
type fence struct {
	mu    sync.Mutex
	table ownedTable
	inner []Interface // that it is about
}

// Isolate keeps these interfaces apart from all other networks of the host, and no others any more.
func (h *Host) Isolate(interfaces []Interface) error {
	f := &h.fence
	f.mu.Lock()
	defer f.mu.Unlock()
	same := slices.EqualFunc(f.inner, interfaces, func(a, b Interface) bool { return a.Name == b.Name && slices.Equal(a.Addrs, b.Addrs) })
	switch {
	case len(interfaces) == 0:
		f.inner = nil
		return f.table.close()
	case same && f.table.loaded:
		return nil
	}
	err := f.table.replace(fenceName, func(b *batch) {
		b.chain("prerouting", nftables.ChainHookPrerouting)
		b.chain("forward", nftables.ChainHookForward)
		for _, i := range interfaces {
			b.isolate(i)
		}
	})
	if err == nil {
		f.inner = slices.Clone(interfaces)
	}
	return err
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
