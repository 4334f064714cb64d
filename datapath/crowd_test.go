package datapath_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"testing"

	"github.com/overlane/overlane/datapath"
	"github.com/vishvananda/netlink"
)

// crowd is a namespace in which idle containers hang on ports, as many as one likes, with their interfaces up. It has no
// IPv6, which Docker turns off where a network has none: the greetings of a thousand interfaces to each other are no idleness.
type crowd struct {
	space string
	ports []datapath.PortID
}

// crowdGroup is the interfaces' group in the namespace: the kernel takes one away much faster than its members one by one.
const crowdGroup = 7

func newCrowd(t testing.TB) *crowd {
	t.Helper()
	c := &crowd{space: fmt.Sprintf("ovbed%d-crowd", os.Getpid())}
	must(t, exec.Command("ip", "netns", "add", c.space).Run())
	t.Cleanup(func() { exec.Command("ip", "netns", "del", c.space).Run() })
	t.Cleanup(func() { c.leave(t) })
	run(t, c.space, "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6")
	return c
}

// grow adds a port.
func (c *crowd) grow() error {
	i := len(c.ports)
	name := fmt.Sprintf("crowd%d", i)
	id, err := plane.AddPort(datapath.PortConfig{
		Name: name, Alias: "test:" + name, VNI: vni, MTU: innerMTU,
		MAC:   datapath.MAC{2, 0x42, 10, 63, byte(i >> 8), byte(i)},
		Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 63, byte(i >> 8), byte(i)})},
	})
	if err != nil {
		return err
	}
	c.ports = append(c.ports, id)
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetGroup(link, crowdGroup); err != nil {
		return err
	}
	// Else the kernel makes a queue for each of a multi-queue tap's 256, 6.5 MB in all, and is slow for seconds afterwards.
	none := &netlink.GenericQdisc{QdiscType: "noqueue", QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_ROOT}}
	if err := netlink.QdiscReplace(none); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// gather adds ports until there are so many.
func (c *crowd) gather(t testing.TB, size int) {
	t.Helper()
	inSpace(t, c.space, func() error {
		for len(c.ports) < size {
			if err := c.grow(); err != nil {
				return err
			}
		}
		return nil
	})
}

// leave takes every port away.
func (c *crowd) leave(t testing.TB) {
	t.Helper()
	if len(c.ports) > 0 {
		run(t, c.space, fmt.Sprintf("ip link del group %d", crowdGroup))
	}
	for _, id := range c.ports {
		must(t, plane.DelPort(id))
	}
	c.ports = nil
}
