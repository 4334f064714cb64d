package datapath

import (
	"math"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// FreeHugepages is for the tests.
func FreeHugepages(dir string) uint64 { return freeHugepages(dir) }

// PretendHugepages has every hugepage one could wish for seem free.
func PretendHugepages() {
	freeHugepages = func(string) uint64 { return math.MaxUint64 }
}

// ForgetPort leaves a tap as a daemon does that ends.
func (d *Datapath) ForgetPort(id PortID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.survey = survey{}
	return d.removePort(id, d.ports[id], true)
}

// LookEverywhere looks for taps in the namespaces that a list gives, and says whether one with an alias is there; ErrTapGone is certain.
func LookEverywhere(list func() (map[uint64]string, error), alias string) error {
	d := &Datapath{survey: lookEverywhere(list)}
	_, err := d.findAnywhere(PortConfig{Alias: alias})
	return err
}

// ForgetSurvey has the namespaces looked at again.
func (d *Datapath) ForgetSurvey() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.survey = survey{}
}

// ParseHint is the path's MTU of which an ICMP message tells, and the VTEP to which it leads.
func ParseHint(message []byte, own netip.Addr) (to netip.AddrPort, mtu int, ok bool) {
	h, ok := parseHint(message, own.Is4(), own)
	return h.to, h.mtu, ok
}

// TooLong is what the control messages of a socket's error queue say that a path carries.
func TooLong(control []byte) (mtu int, local, ok bool) { return tooLong(control) }

// Probe is what this host's kernel or a router says of a packet of so many bytes; 0: nothing.
func Probe(from netip.Addr, to netip.AddrPort, size int) (mtu int, err error) {
	p, err := sendProbe(from, to, size)
	if err != nil {
		return 0, err
	}
	return p.answer(), nil
}

// FollowDevices is how many devices are remembered after the kernel has told of some, and how many of its messages mattered.
func FollowDevices(told []netlink.LinkUpdate) (remembered, mattered int) {
	m := deviceMTUs{}
	for _, link := range told {
		if m.changed(link) {
			mattered++
		}
	}
	return len(m), mattered
}
