// Package ipam gives out addresses that no two hosts of a cluster give out both. Every pool is cut into blocks, each
// owned by one host, which hands out its addresses without asking anybody; blocks change hands by a transfer, which
// their owner alone can make. ALGORITHM.md states what holds at every moment, and why.
package ipam

import (
	"net/netip"
	"time"
)

// How long things take, and how long they may.
const (
	tick              = 250 * time.Millisecond // between looks at the clock
	syncInterval      = time.Second            // between exchanges of a pool's state with another host
	askRetry          = 200 * time.Millisecond // until a question that got no answer is asked again
	askPatience       = time.Second            // until somebody else is asked
	pauseLimit        = 10 * time.Second       // a daemon that did not run for so long starts anew
	requestLimit      = 6 * time.Second        // until a request fails; a crash is found out in about five: a probe's second and the suspicion's four
	releaseQuarantine = time.Minute            // a released address is given out again no sooner, as long as another is free
	reclaimQuarantine = time.Hour              // nor one of a host that was lost
	collectAfter      = 20 * time.Second       // a lease that has had no endpoint for so long is given back
	exhaustedTime     = 2 * time.Second        // nobody is asked for more so soon after all had none, as long as released ones are left
	lowWatermark      = 16                     // free addresses below which a host asks for more, ahead of need
	maxGrantSpans     = 256                    // in one transfer
)

// Request is what Docker asks a pool for.
type Request struct {
	Addr    netip.Addr // invalid: any
	MAC     string     // of the endpoint; empty, with an address: that is reserved on every host (--aux-address)
	Name    string     // of the container; empty where the engine does not say
	Ordered bool       // an operator takes the address from a host that is down; it is not handed out
	Gateway bool       // the address is the network's gateway, the same on every host and owned by none
}
