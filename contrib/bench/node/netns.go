package main

import (
	"errors"
	"os"
	"runtime"

	"github.com/vishvananda/netns"
)

// newContainerNS makes a container's namespace, which lasts as long as the file: a thousand named ones would each be a mount, which
// slows down whoever starts a process. It has no IPv6, which Docker turns off where a network has none: the neighbour discovery of a
// thousand interfaces is not idleness.
func newContainerNS() (ns netns.NsHandle, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		ns, err = netns.New()
		err = errors.Join(err, os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0))
	}()
	<-done
	return ns, err
}
