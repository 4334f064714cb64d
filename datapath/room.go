package datapath

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/overlane/overlane/datapath/dp"
)

// TableStats is how full a table is. What does not fit is refused: NearlyFull is said before.
type TableStats struct {
	Name       string `json:"name"`
	Entries    int    `json:"entries"`
	Room       int    `json:"room"`
	NearlyFull bool   `json:"nearly_full"` // from 80 % on
}

func tableStats(name string, entries, room int) TableStats {
	return TableStats{name, entries, room, entries*100 >= room*80}
}

// tableStats counts what the tables hold.
func (d *Datapath) tableStats() []TableStats {
	macs, neighbours := 0, 0
	for _, n := range d.nets {
		macs += 1 + union(n.localMACs, n.macs)
		neighbours += union(n.localAddrs, n.neighbours)
	}
	return []TableStats{
		tableStats("networks", len(d.nets), dp.MaxNetworks),
		tableStats("ports", len(d.ports), dp.MaxPorts),
		tableStats("VTEPs", len(d.vteps), dp.MaxVTEPs),
		tableStats("MAC addresses", macs, dp.MaxMACs),
		tableStats("neighbours", neighbours, dp.MaxNeighbours),
	}
}

// union counts the keys that are in one of two maps, of which few is the smaller one.
func union[K comparable, V, W any](few map[K]V, many map[K]W) int {
	n := len(few) + len(many)
	for key := range few {
		if _, both := many[key]; both {
			n--
		}
	}
	return n
}

// full says in words that a table has no room.
func full(err error, table string, room int) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("the table of %s is full: it has room for %d", table, room)
	}
	return err
}
