package hostaddr

import (
	"net/netip"
	"time"
)

// backAfter is how long an address that was lost has to be the best again before it is taken: links that flap do so faster.
const backAfter = 5 * time.Second

// Choice is which address the host goes on with as it loses some and gets others.
type Choice struct {
	source Source
	lost   map[netip.Addr]bool // left only because the host had them no more
	best   netip.Addr          // of these, the one that the source names first; invalid: none
	since  time.Time
}

// NewChoice begins with a host that has lost no address yet.
func NewChoice(source Source) *Choice {
	return &Choice{source: source, lost: map[netip.Addr]bool{}}
}

// Next is the address to go on with: the present one while the host has it, whatever else it has got by then, else another of its
// family. One that was lost is taken again when it has been the best for five seconds. Where the time has yet to come, wait says
// in how long to ask again; zero: when something changes. The error says what the host lacks.
func (c *Choice) Next(present netip.Addr, now time.Time) (next netip.Addr, wait time.Duration, err error) {
	has, err := Has(present)
	if err != nil {
		return netip.Addr{}, 0, err
	}
	found, err := c.source.ofFamily(present)
	if !has {
		c.lost[present], c.best = true, netip.Addr{}
		if err != nil {
			return netip.Addr{}, 0, err
		}
		return found[0], 0, nil
	}
	delete(c.lost, present)
	if err != nil || !c.lost[found[0]] {
		c.best = netip.Addr{}
		return present, 0, nil
	}
	if c.best != found[0] {
		c.best, c.since = found[0], now
	}
	if wait = c.since.Add(backAfter).Sub(now); wait > 0 {
		return present, wait, nil
	}
	return c.best, 0, nil
}
