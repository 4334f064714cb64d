package overlay

import "github.com/overlane/overlane/overlay/keyexchange"

// Receive takes a message from another host's overlay.
func (o *Overlay) Receive(from string, text []byte) {
	if len(text) > 0 && text[0] == keyexchange.ProtocolVersion {
		o.encryption.receive(from, text)
		return
	}
	o.addresses.Receive(from, text)
}
