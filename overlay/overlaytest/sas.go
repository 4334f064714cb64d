package overlaytest

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"

	"github.com/overlane/overlane/datapath"
)

// sas are a Datapath's. It panics where the nonces of ESP, or memory that a worker reads, would be in danger: two SAs with one key, or one that is freed in use.
type sas struct {
	made map[*datapath.SA]datapath.SAConfig
	keys map[string]bool // ever used
	sets map[netip.AddrPort]SASet
}

func newSAs() sas {
	return sas{map[*datapath.SA]datapath.SAConfig{}, map[string]bool{}, map[netip.AddrPort]SASet{}}
}

// SASet is what is in force with a VTEP. Without a key, Out is none.
type SASet struct {
	Out datapath.SAConfig
	In  []datapath.SAConfig

	out *datapath.SA
	in  []*datapath.SA
}

// SASets gives those of all VTEPs that have some.
func (d *Datapath) SASets() map[netip.AddrPort]SASet { return clone(d, d.sas.sets) }

// SACount is how many SAs there are.
func (d *Datapath) SACount() int { return len(clone(d, d.sas.made)) }

func (d *Datapath) NewSA(c datapath.SAConfig) (*datapath.SA, error) {
	if err := d.check("NewSA"); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(c.Key); n != 16 && n != 32 || bytes.Equal(c.Key, make([]byte, n)) {
		panic(fmt.Sprintf("an SA with key %x", c.Key))
	}
	if d.sas.keys[string(c.Key)] {
		panic("a second SA with one key")
	}
	c.Key = bytes.Clone(c.Key)
	sa := new(datapath.SA)
	d.sas.made[sa], d.sas.keys[string(c.Key)] = c, true
	return sa, nil
}

func (d *Datapath) FreeSA(sa *datapath.SA) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, made := d.sas.made[sa]; !made {
		panic("an SA that is not there is freed")
	}
	for vtep, s := range d.sas.sets {
		if s.out == sa || slices.Contains(s.in, sa) {
			panic(fmt.Sprintf("an SA of VTEP %s is freed", vtep))
		}
	}
	delete(d.sas.made, sa)
}

func (d *Datapath) SetSAs(vtep netip.AddrPort, out *datapath.SA, in []*datapath.SA) error {
	return d.set("SetSAs", func() {
		if out == nil && len(in) == 0 {
			delete(d.sas.sets, vtep)
			return
		}
		s := SASet{out: out, in: slices.Clone(in)}
		for _, sa := range in {
			s.In = append(s.In, d.sas.config(sa))
		}
		if out != nil {
			s.Out = d.sas.config(out)
		}
		d.sas.sets[vtep] = s
	})
}

func (s *sas) config(sa *datapath.SA) datapath.SAConfig {
	c, made := s.made[sa]
	if !made {
		panic("an SA that is not there is in a set")
	}
	return c
}
