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
	Capacity   int    `json:"capacity"`
	NearlyFull bool   `json:"nearly_full"` // from 80 % on
}

func tableStats(name string, entries, capacity int) TableStats {
	return TableStats{name, entries, capacity, entries*100 >= capacity*80}
}

// tableStats counts what the tables hold.
func (d *Datapath) tableStats() []TableStats {
	macs, neighbours := 0, 0
	for _, n := range d.nets {
		macs += 1 + union(n.localMACs, n.macs)
		neighbours += union(n.localAddrs, n.neighbours)
		// Few, and hardly ever in more than one.
		macs += len(n.extraMACs)
		neighbours += len(n.extras)
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

// tableFull says in words that a table has no room.
func tableFull(err error, table string, capacity int) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("the table of %s is full: it has room for %d", table, capacity)
	}
	return err
}
