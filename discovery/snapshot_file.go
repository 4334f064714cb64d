package discovery

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/overlane/overlane/discovery/internal/wire"
	"github.com/overlane/overlane/internal/wholefile"
)

// snapshotFile lies in the data directory. With it a restarted node finds the
// others without seeds, and is told nothing that it knew to be over. It is worth
// little and made anew all the time: a damaged one is left aside.
const (
	snapshotFile     = "peers"
	snapshotInterval = 30 * time.Second
	snapshotSoon     = time.Second
	maxSnapshot      = 256 << 20 // bytes
)

func encodeSnapshot(now time.Time, owners []ownerSnapshot) ([]byte, error) {
	w := &wire.Snapshot{Saved: uint64(now.UnixMilli())}
	for i := range owners {
		r := &owners[i]
		w.Owners = append(w.Owners, &wire.OwnerSnapshot{
			Announce: encodeAnnounce(&r.announce),
			Meta:     wireMeta(r.meta),
			Address:  encodeAddrPort(r.address),
		})
	}
	return encode(w)
}

// decodeSnapshot reads a snapshot and how long ago it was saved. Its error is a
// *rejection.
func decodeSnapshot(now time.Time, b []byte) (owners []ownerSnapshot, ago time.Duration, err error) {
	var w wire.Snapshot
	if err := decode(b, maxSnapshot, &w); err != nil {
		return nil, 0, err
	}
	d := decoder{}
	owners = each(&d, w.Owners, d.ownerSnapshot)
	ago = max(now.Sub(d.time(w.Saved)), 0)
	return owners, ago, d.err
}

func (d *decoder) ownerSnapshot(w *wire.OwnerSnapshot) ownerSnapshot {
	r := ownerSnapshot{d.announce(w.GetAnnounce()), d.meta(w.GetMeta()), d.addrPort(w.Address)}
	if !r.address.IsValid() {
		d.fail("address", "none")
	}
	return r
}

// restore gives the core what an earlier life of this node left on disk.
func (c *Cluster) restore() {
	path := filepath.Join(c.cfg.Dir, snapshotFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var e restoreEvent
	if err == nil {
		e.owners, e.ago, err = decodeSnapshot(time.Now(), b)
	}
	if err != nil {
		c.log.Warnf("%s is left aside: %v; this node knows the others only from its seeds", path, err)
		return
	}
	for i := range e.owners {
		c.affiliation.know(e.owners[i].owner)
	}
	c.do(e)
}

// save puts on disk what the core knows of the others.
func (c *Cluster) save() {
	c.mu.Lock()
	owners := c.core.snapshot()
	c.mu.Unlock()
	b, err := encodeSnapshot(time.Now(), owners)
	if err == nil {
		err = wholefile.Replace(filepath.Join(c.cfg.Dir, snapshotFile), b)
	}
	if err != nil && c.limiter.allow("snapshot") {
		c.log.Warnf("what is known of the other nodes is not on disk: %v", err)
	}
}

// runSave saves now and again, and soon after a member is new: a restart right after is to find the way back to it.
func (c *Cluster) runSave() {
	beat := time.NewTicker(snapshotInterval)
	defer beat.Stop()
	var soon <-chan time.Time // nil: nobody new
	for {
		select {
		case <-c.ctx.Done():
			c.save()
			return
		case <-c.memberUp:
			if soon == nil {
				soon = time.After(snapshotSoon)
			}
			continue
		case <-soon:
		case <-beat.C:
		}
		soon = nil
		c.save()
	}
}
