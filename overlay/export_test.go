package overlay

import "net/netip"

// Fence is what the address management calls.
func (o *Overlay) Fence(taken map[netip.Addr]string) { o.fence(taken) }

// AskExtras asks containers once whether they still have their extra addresses.
func (o *Overlay) AskExtras() {
	for turn := range extraInterval {
		o.askExtras(turn)
	}
}

// LookAtInterfaces looks once at those in containers.
func (o *Overlay) LookAtInterfaces() { o.lookAtInterfaces() }

// ExtraBurst is how many extra addresses an endpoint may claim at once.
const ExtraBurst = extraBurst

// AnnounceMTU looks at the device at once.
func (o *Overlay) AnnounceMTU() { o.announceMTU(0) }
