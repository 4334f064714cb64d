package datapath

import (
	"errors"
	"net/netip"
)

// MaxPackets is how many packets an SA sends at most. At half of it a new key is due.
const MaxPackets = 1 << 34

// SAConfig says how to make an SA.
type SAConfig struct {
	SPI  uint32
	Key  []byte // 16 or 32 bytes
	Salt [4]byte
}

// SA is a security association (RFC 4301 section 4.1): one direction between two VTEPs.
type SA struct{ packets uint64 }

// Packets counts those that were sent or received under it.
func (s *SA) Packets() uint64 { return s.packets }

var errNoESP = errors.New("ESP: not yet")

// NewSA makes an SA. It keeps no reference to the key.
func (d *Datapath) NewSA(SAConfig) (*SA, error) { return nil, errNoESP }

// FreeSA wipes an SA, which must be in no VTEP's set.
func (d *Datapath) FreeSA(*SA) {}

// SetSAs says which SAs are in force with a VTEP, at most 16 to receive.
func (d *Datapath) SetSAs(vtep netip.AddrPort, out *SA, in []*SA) error { return errNoESP }
