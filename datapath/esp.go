package datapath

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/overlane/overlane/datapath/dp"
)

// MaxPackets is how many packets are sent under one SA at most; the rest are dropped.
const MaxPackets = dp.SAPackets

// MaxSAs is how many SAs a VTEP may have for receiving.
const MaxSAs = 16

// SAConfig says what a security association is: RFC 4303 with AES-GCM (RFC 4106), extended sequence numbers, in UDP (RFC 3948).
type SAConfig struct {
	SPI  uint32 // see SPI
	Key  []byte // 16 or 32 bytes; one that has never been an SA's for sending
	Salt [4]byte
}

// SPI makes a number into one that an SA may have: it is not reserved (RFC 4303 section 2.1), and no beginning of a VXLAN header.
func SPI(number uint32) uint32 { return max(number&dp.SPIMask, dp.SPIMin) }

// SA is a security association (RFC 4301 section 4.1): one direction between two VTEPs.
type SA struct{ id uint32 }

// NewSA makes one. It keeps no reference to the key.
func (d *Datapath) NewSA(c SAConfig) (*SA, error) {
	if n := len(c.Key); n != 16 && n != 32 {
		return nil, fmt.Errorf("SA %08x: its key has %d bytes: want 16 or 32", c.SPI, n)
	}
	if c.SPI != SPI(c.SPI) {
		return nil, fmt.Errorf("SA %08x: the SPI is reserved, or VXLAN's", c.SPI)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errClosed
	}
	id, locked, err := dp.AddSA(c.SPI, c.Key, c.Salt)
	if err != nil {
		return nil, fmt.Errorf("SA %08x: %w", c.SPI, err)
	}
	if !locked && !d.unlocked {
		d.unlocked = true
		d.log.Warn("keys of encrypted networks may be swapped to disk, or be in a core dump: give the daemon CAP_IPC_LOCK, or more of LimitMEMLOCK, or do without swap")
	}
	return &SA{id}, nil
}

// FreeSA wipes one that is no VTEP's.
func (d *Datapath) FreeSA(s *SA) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		dp.DelSA(s.id)
	}
}

// Packets is how many were sent under it, or received.
func (s *SA) Packets() uint64 { return dp.SAPacketsOf(s.id) }

// vtepSAs are those of a VTEP.
type vtepSAs struct {
	out *SA // nil: there is none
	in  []*SA
}

// SetSAs replaces a VTEP's SAs, also those of one that is yet to come; with none at all it is as if they had never been. Nobody uses
// others any more when it returns.
func (d *Datapath) SetSAs(at netip.AddrPort, out *SA, in []*SA) error {
	if len(in) > MaxSAs {
		return fmt.Errorf("VTEP %s: %d SAs to receive by: at most %d", at, len(in), MaxSAs)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	if out == nil && len(in) == 0 {
		delete(d.sas, at)
	} else {
		d.sas[at] = vtepSAs{out, in}
	}
	for other, v := range d.vteps {
		if other.Addr() == at.Addr() {
			if err := d.applySAs(v); err != nil {
				return err
			}
		}
	}
	return nil
}

// applySAs gives a VTEP its SAs, with d.mu held. Several may share an address, and packets tell the address alone: each receives by those of all.
func (d *Datapath) applySAs(v *vtep) error {
	var out *uint32
	own := d.sas[v.at]
	if own.out != nil {
		out = &own.out.id
	}
	all := own.in
	for at, sas := range d.sas {
		if at != v.at && at.Addr() == v.at.Addr() {
			all = slices.Concat(all, sas.in)
		}
	}
	in := make([]uint32, min(len(all), dp.SAsIn))
	for i := range in {
		in[i] = all[i].id
	}
	if err := dp.SetSAs(v.id, out, in); err != nil {
		return fmt.Errorf("SAs of VTEP %s: %w", v.at, err)
	}
	return nil
}
