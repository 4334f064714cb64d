package overlay

import "net/netip"

// Fence is what the address management calls.
func (o *Overlay) Fence(taken map[netip.Addr]string) { o.fence(taken) }
