package overlay

import (
	"github.com/overlane/overlane/capture"
	"github.com/overlane/overlane/overlay/keyexchange"
)

// Receive takes a message from another host's overlay.
func (o *Overlay) Receive(from string, text []byte) {
	if len(text) > 0 && text[0] == keyexchange.ProtocolVersion {
		o.encryption.receive(from, text)
		return
	}
	if len(text) > 0 && text[0] == capture.ProtocolVersion {
		if m := o.captures.Load(); m != nil {
			m.Receive(from, text)
		}
		return
	}
	o.addresses.Receive(from, text)
}
