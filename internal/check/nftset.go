package check

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// lookup takes a set, or a map of verdicts.
func (r nftReader) lookup(out *rule, t *nftables.Table, f field, e *expr.Lookup) (matches bool, err error) {
	set, err := r.GetSetByName(t, e.SetName)
	if err != nil {
		return false, fmt.Errorf("set %s: %w", e.SetName, err)
	}
	elements, err := r.GetSetElements(set)
	if err != nil {
		return false, fmt.Errorf("elements of set %s: %w", e.SetName, err)
	}
	value := r.value(f)
	if len(elements) > 0 && len(elements[0].Key) != len(value) { // fields side by side
		f = otherField
	}
	if f == otherField {
		for _, element := range elements {
			if v := verdictOf(element); v.Chain != "" {
				out.follow(t, v)
			}
		}
		return out.narrow(f, true), nil
	}
	element, found := find(elements, set.Interval, value)
	if found && e.IsDestRegSet {
		out.follow(t, verdictOf(element))
	}
	return out.narrow(f, found != e.Invert), nil
}

// find gives the element with a value. Those of a set of intervals are where one begins or has ended.
func find(elements []nftables.SetElement, intervals bool, value []byte) (nftables.SetElement, bool) {
	var last nftables.SetElement
	found := false
	for _, e := range elements {
		order := bytes.Compare(e.Key, value)
		switch {
		case order == 0 && !e.IntervalEnd:
			return e, true
		case !intervals || order > 0:
		case last.Key == nil || bytes.Compare(e.Key, last.Key) > 0 || bytes.Equal(e.Key, last.Key) && last.IntervalEnd:
			last, found = e, !e.IntervalEnd
		}
	}
	return last, found
}

// verdictOf reads what a map has for an element, which the library leaves as the kernel's attributes.
func verdictOf(e nftables.SetElement) *expr.Verdict {
	v := &expr.Verdict{Kind: expr.VerdictContinue}
	attributes, err := nl.ParseRouteAttr(e.Val)
	if err != nil {
		return v // of another map
	}
	for _, a := range attributes {
		switch {
		case a.Attr.Type == unix.NFTA_VERDICT_CODE && len(a.Value) == 4:
			v.Kind = expr.VerdictKind(int32(binary.BigEndian.Uint32(a.Value)))
		case a.Attr.Type == unix.NFTA_VERDICT_CHAIN:
			v.Chain = strings.TrimRight(string(a.Value), "\x00")
		}
	}
	return v
}
