package overlay

import (
	"time"

	"github.com/overlane/overlane/datapath"
)

// SetEncryptionSources says where the counters of SAs and the clock's offset come from. It is called before Attach.
func (o *Overlay) SetEncryptionSources(packets func(*datapath.SA) uint64, offset func() time.Duration) {
	o.encryption.packets, o.encryption.offset = packets, offset
}
