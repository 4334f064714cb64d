package hostaddr

import (
	"context"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

const (
	// settleTime makes one look of a burst: an address goes, the next comes, then the route.
	settleTime = 100 * time.Millisecond
	// lookAgain is how long to do without the kernel's word where it can't be had.
	lookAgain = 10 * time.Second
)

// Watch tells when addresses or routes of the calling thread's network namespace may have changed, until the context ends.
func Watch(ctx context.Context) (<-chan struct{}, error) {
	ns, err := netns.Get()
	if err != nil {
		return nil, err
	}
	told := make(chan struct{}, 1)
	go func() {
		defer ns.Close()
		for ctx.Err() == nil {
			listen(ctx, ns, told)
		}
	}()
	return told, nil
}

func tell(told chan struct{}) {
	select {
	case told <- struct{}{}:
	default: // whoever is to look has not looked yet
	}
}

// listen tells of changes until the kernel has more to say than is taken in time, or can't be listened to for a while.
func listen(ctx context.Context, ns netns.NsHandle, told chan struct{}) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	addrs, routes := make(chan netlink.AddrUpdate, 64), make(chan netlink.RouteUpdate, 64)
	addrErr := netlink.AddrSubscribeWithOptions(addrs, ctx.Done(), netlink.AddrSubscribeOptions{Namespace: &ns})
	routeErr := netlink.RouteSubscribeWithOptions(routes, ctx.Done(), netlink.RouteSubscribeOptions{Namespace: &ns})
	defer func() { // lets go of who is about to tell something
		if addrErr == nil {
			go drain(addrs)
		}
		if routeErr == nil {
			go drain(routes)
		}
	}()
	var deaf, settled <-chan time.Time
	if addrErr != nil || routeErr != nil {
		deaf = time.After(lookAgain)
	}
	tell(told) // of what came before
	for heard := true; heard; {
		select {
		case <-ctx.Done():
			return
		case <-deaf:
			return
		case <-settled:
			settled = nil
			tell(told)
			continue
		case _, heard = <-addrs:
		case _, heard = <-routes:
		}
		if settled == nil {
			settled = time.After(settleTime)
		}
	}
}

func drain[T any](updates <-chan T) {
	for range updates {
	}
}
