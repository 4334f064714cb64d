package overlay

import (
	"time"

	"github.com/overlane/overlane/datapath"
)

// Encrypt makes a network an encrypted one, also for the next start.
func (o *Overlay) Encrypt(id string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := o.networks[id]
	n.Encrypted = true
	return o.store.put(bucketNetworks, n.ID, n.Network)
}

// SetEncryptionSources says where the counters of SAs and the clock's offset come from. It is called before Attach.
func (o *Overlay) SetEncryptionSources(packets func(*datapath.SA) uint64, offset func() time.Duration) {
	o.encryption.packets, o.encryption.offset = packets, offset
}
