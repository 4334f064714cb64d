package check

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os/exec"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// nftFamilies are the families whose chains see IP packets to and from this host, by nft's names.
var nftFamilies = map[nftables.TableFamily]string{
	nftables.TableFamilyINet: "inet", nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyBridge: "bridge",
}

// nftReader reads what nf_tables has, by netlink. nft need not be installed; from its text it would be hard to tell which ports
// are in a range, a named set or a map.
type nftReader struct {
	*nftables.Conn
	protocol byte
	port     []byte // as in a packet
}

func readNFTables(about traffic) (ruleset, error) {
	set := ruleset{rules: map[string][]rule{}}
	conn, err := nftables.New()
	if err != nil {
		return set, err
	}
	chains, err := conn.ListChains()
	if err != nil {
		return set, err
	}
	r := nftReader{conn, about.protocol, binary.BigEndian.AppendUint16(nil, about.port)}
	for _, c := range chains {
		if nftFamilies[c.Table.Family] == "" {
			continue
		}
		name := chainName(c.Table, c.Name)
		if c.Type == nftables.ChainTypeFilter && seesOwn(*c.Hooknum) {
			set.roots = append(set.roots, name)
			if c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
				set.closed = append(set.closed, name)
			}
		}
		rules, err := conn.GetRules(c.Table, c)
		if err != nil {
			return set, fmt.Errorf("rules of %s: %w", name, err)
		}
		for _, raw := range rules {
			parsed, err := r.parse(c, raw)
			if err != nil {
				return set, fmt.Errorf("rule with handle %d of %s: %w", raw.Handle, name, err)
			}
			set.rules[name] = append(set.rules[name], parsed)
		}
	}
	return set, nil
}

// seesOwn says whether packets to and from this host itself pass the hook.
func seesOwn(hook nftables.ChainHook) bool {
	return hook == unix.NF_INET_PRE_ROUTING || hook == unix.NF_INET_LOCAL_IN || hook == unix.NF_INET_LOCAL_OUT
}

func chainName(t *nftables.Table, chain string) string {
	return fmt.Sprintf("%s %s %s", nftFamilies[t.Family], t.Name, chain)
}

// field is what a register holds of a packet.
type field int

const (
	otherField field = iota
	l4proto
	dport
)

// parse gives the zero rule for one that no packet of the traffic matches.
func (r nftReader) parse(c *nftables.Chain, raw *nftables.Rule) (rule, error) {
	out := rule{plain: true}
	registers := map[uint32]field{}
	for _, e := range raw.Exprs {
		matches := true
		switch e := e.(type) {
		case *expr.Meta:
			registers[e.Register] = otherField
			if e.Key == expr.MetaKeyL4PROTO {
				registers[e.Register] = l4proto
			}
		case *expr.Payload:
			registers[e.DestRegister] = payloadField(e)
		case *expr.Cmp:
			matches = out.narrow(registers[e.Register], compare(e.Op, bytes.Compare(r.value(registers[e.Register]), e.Data)))
		case *expr.Range:
			value := r.value(registers[e.Register])
			within := bytes.Compare(value, e.FromData) >= 0 && bytes.Compare(value, e.ToData) <= 0
			matches = out.narrow(registers[e.Register], within == (e.Op == expr.CmpOpEq))
		case *expr.Lookup:
			var err error
			if matches, err = r.lookup(&out, c.Table, registers[e.SourceRegister], e); err != nil {
				return rule{}, err
			}
		case *expr.Verdict:
			out.follow(c.Table, e)
		case *expr.Reject:
			out.action = drops
		case *expr.Target:
			if e.Name == "REJECT" {
				out.action = drops
			}
		case *expr.Counter, *expr.Log:
		case *expr.Ct:
			registers[e.Register] = otherField
		default:
			out.plain = false
		}
		if !matches {
			return rule{}, nil
		}
	}
	out.all = out.plain && !out.named
	if out.named && out.action != goesOn || out.all && out.action == drops {
		out.text = describe(c, raw.Handle)
	}
	return out, nil
}

func payloadField(e *expr.Payload) field {
	switch {
	case e.Base == expr.PayloadBaseTransportHeader && e.Offset == 2 && e.Len == 2:
		return dport
	case e.Base == expr.PayloadBaseNetworkHeader && e.Offset == 9 && e.Len == 1: // IPv4's protocol
		return l4proto
	}
	return otherField
}

// value is that of a packet of the traffic; nil: it depends on the packet.
func (r nftReader) value(f field) []byte {
	switch f {
	case l4proto:
		return []byte{r.protocol}
	case dport:
		return r.port
	}
	return nil
}

// narrow takes a condition on a field, and whether the traffic meets it, where that is known. It says whether the traffic may match yet.
func (r *rule) narrow(f field, met bool) bool {
	switch f {
	case otherField:
		r.plain = false
		return true
	case dport:
		r.named = r.named || met
	}
	return met
}

func compare(op expr.CmpOp, order int) bool {
	switch op {
	case expr.CmpOpEq:
		return order == 0
	case expr.CmpOpNeq:
		return order != 0
	case expr.CmpOpLt:
		return order < 0
	case expr.CmpOpLte:
		return order <= 0
	case expr.CmpOpGt:
		return order > 0
	}
	return order >= 0
}

// follow takes a verdict.
func (r *rule) follow(t *nftables.Table, v *expr.Verdict) {
	switch v.Kind {
	case expr.VerdictDrop:
		r.action = drops
	case expr.VerdictAccept:
		r.action = accepts
	case expr.VerdictReturn:
		r.action = returns
	case expr.VerdictJump, expr.VerdictGoto:
		r.jumps = append(r.jumps, chainName(t, v.Chain))
	}
}

// describe has nft write the rule, which the library can't. Without nft its handle names it.
func describe(c *nftables.Chain, handle uint64) string {
	mark := fmt.Sprintf(" # handle %d", handle)
	out, _ := exec.Command("nft", "--handle", "list", "chain", nftFamilies[c.Table.Family], c.Table.Name, c.Name).Output()
	for line := range strings.Lines(string(out)) {
		if text, is := strings.CutSuffix(strings.TrimSpace(line), mark); is {
			return text
		}
	}
	return fmt.Sprintf("the rule with handle %d in chain %s", handle, chainName(c.Table, c.Name))
}
