package ipam

import "github.com/overlane/overlane/overlay/ipam/prefix"

// apply takes what is newly known of a pool. Of what this host gets of a lost one, the addresses that containers had come last.
func (c *core) apply(p *pool, t table) {
	before := p.Table
	c.put(p, t)
	for _, s := range before {
		if now, _ := t.of(s.First); now.Epoch > s.Epoch && nodeOf(s.Owner) != c.self && !c.up(nodeOf(s.Owner)) && t.owned(s.Owner, 1, prefix.MaxOffset) == nil && !before.single(s.Owner) {
			c.gone(nodeOf(s.Owner))
		}
	}
	c.noteTaken(p, before)
	for lost, spans := range p.reclaimed(before) {
		for _, at := range c.lastUsed(p.id, nodeOf(lost)) {
			if _, ok := spans.of(at); ok && !p.inUse(at) {
				p.putInQuarantine(at, c.now.Add(reclaimQuarantine))
			}
		}
	}
}

// single says whether an owner has one address: whoever takes that over need not have called its host lost, which may come back with other pools.
func (t table) single(owner string) bool {
	spans := t.owned(owner, 1, prefix.MaxOffset)
	return len(spans) == 1 && spans[0].size() == 1
}

// reclaimed are the addresses that this host has got since from owners that were lost, by owner.
func (p *pool) reclaimed(before table) map[string]table {
	from := map[string]table{}
	for _, s := range p.Table.owned(p.Owner, 1, prefix.MaxOffset) {
		for s.First <= s.Last {
			was, known := before.of(s.First)
			if !known {
				break
			}
			if s.Epoch > was.Epoch {
				from[was.Owner] = append(from[was.Owner], span{First: s.First, Last: min(s.Last, was.Last)})
			}
			s.First = was.Last + 1
		}
	}
	return from
}

// compact makes one span of neighbouring ones of this host that differ by their version alone, or tables would grow for ever.
func (c *core) compact(p *pool) {
	if p.resyncing || c.now.Before(p.nextCompaction) {
		return
	}
	p.nextCompaction = c.now.Add(syncInterval)
	var all table
	for _, s := range p.Table {
		if n := len(all); n > 0 && s.Owner == p.Owner {
			last := &all[n-1]
			if last.Owner == s.Owner && last.Epoch == s.Epoch && last.Last+1 == s.First {
				last.Last, last.Version = s.Last, max(last.Version, s.Version)
				continue
			}
		}
		all = append(all, s)
	}
	if len(all) < len(p.Table) {
		c.put(p, all)
		c.tell(p, message{Spans: all.owned(p.Owner, 1, prefix.MaxOffset)})
	}
}

// put changes the table.
func (c *core) put(p *pool, t table) {
	p.Table, p.changed = t, c.now
	p.count()
	c.write(p)
}
