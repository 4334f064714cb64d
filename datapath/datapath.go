// Package datapath is the Go face of overlane's DPDK pipeline: ports on which containers hang, the forwarding entries
// that the workers read, and the counters that they write. It knows neither Docker nor gossip.
//
// Every call is safe for concurrent use and idempotent. Workers never wait for a call, and a call waits for
// the grace period in which a worker may still hold what it took away (microseconds under load, none when idle). Calls wait
// for each other, AddPort and DelPort for the kernel as well.
package datapath

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/overlane/overlane/datapath/dp"
)

// MAC is an Ethernet address, in the order of the wire.
type MAC [6]byte

func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// MarshalText writes the address as 02:42:0a:14:00:02.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (m *MAC) UnmarshalText(text []byte) error {
	hw, err := net.ParseMAC(string(text))
	if err != nil || len(hw) != len(m) {
		return fmt.Errorf("MAC %q: want six bytes such as 02:42:0a:14:00:02", text)
	}
	*m = MAC(hw)
	return nil
}

// MaxMTU is the largest MTU of a port, in bytes of IP packet: what a packet buffer holds.
const MaxMTU = dp.MaxFrame - 14

// MaxVNI is the largest VXLAN network identifier: 24 bits (RFC 7348 section 5).
const MaxVNI = 1<<24 - 1

// Trust is what a port's container may send from, and claim by ARP and neighbour discovery, beside its own: never what is another
// port's own.
type Trust = dp.Trust

// From the least to the most.
const (
	TrustNone    = dp.TrustNone
	TrustAddress = dp.TrustAddress // any IP address
	TrustMAC     = dp.TrustMAC     // and any MAC
)

// PortID names a port for as long as it exists. Numbers are used again.
type PortID uint32

// PortConfig says what hangs on a port.
type PortConfig struct {
	Name  string       // of the interface when it is made, at most 15 bytes
	Alias string       // IFLA_IFALIAS: the tap is found again by it, whatever it is called by then
	Netns string       // path of the network namespace that holds the tap; empty: the daemon's own
	VNI   uint32       // 1 to MaxVNI; the network must have been added
	MAC   MAC          // the port's own source address
	Addrs []netip.Addr // its own IP sources, at most one of each family; the MAC's link-local address is added
	Trust Trust        // what it may send from beside these and what SetExtra gives it
	MTU   int          // bytes of IP packet

	Native *Native // the port is no tap; nil: it is one
}

func (c *PortConfig) check() error {
	switch {
	case c.Name == "" || len(c.Name) > 15:
		return fmt.Errorf("port name %q: want 1 to 15 bytes", c.Name)
	case c.Alias == "":
		return fmt.Errorf("port %s: alias is empty: the tap could not be found again", c.Name)
	case c.MTU < 68 || c.MTU > MaxMTU:
		return fmt.Errorf("port %s: MTU %d: want 68 to %d", c.Name, c.MTU, MaxMTU)
	}
	if err := checkMAC(c.MAC); err != nil {
		return fmt.Errorf("port %s: %w", c.Name, err)
	}
	families := map[bool]bool{}
	for _, addr := range c.Addrs {
		if err := checkAddr(addr); err != nil {
			return fmt.Errorf("port %s: %w", c.Name, err)
		}
		if families[addr.Is4()] {
			return fmt.Errorf("port %s: address %s: a port has one address of each family", c.Name, addr)
		}
		families[addr.Is4()] = true
	}
	if c.Native != nil {
		if err := c.Native.Check(); err != nil {
			return fmt.Errorf("port %s: %w", c.Name, err)
		}
	}
	return checkVNI(c.VNI)
}

func checkMAC(m MAC) error {
	if m[0]&1 != 0 || m == (MAC{}) {
		return fmt.Errorf("MAC %s: want a unicast address", m)
	}
	return nil
}

func checkAddr(addr netip.Addr) error {
	if !addr.IsValid() || addr.IsMulticast() || addr.IsUnspecified() || addr.Is4In6() || addr.Zone() != "" || addr == broadcast {
		return fmt.Errorf("address %s: want a unicast address", addr)
	}
	return nil
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

func checkVNI(vni uint32) error {
	if vni == 0 || vni > MaxVNI {
		return fmt.Errorf("VNI %d: want 1 to %d", vni, MaxVNI)
	}
	return nil
}
