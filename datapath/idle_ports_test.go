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

// idlePorts is a namespace in which idle containers hang on ports, as many as one likes, with their interfaces up. It has no
// IPv6, which Docker turns off where a network has none: the neighbour discovery of a thousand interfaces is not idleness.
type idlePorts struct {
	ns    string
	ports []datapath.PortID
}

// idleGroup is the interfaces' group in the namespace: the kernel takes one away much faster than its members one by one.
const idleGroup = 7

func newIdlePorts(t testing.TB) *idlePorts {
	t.Helper()
	c := &idlePorts{ns: fmt.Sprintf("ovtest%d-idle", os.Getpid())}
	must(t, exec.Command("ip", "netns", "add", c.ns).Run())
	t.Cleanup(func() { exec.Command("ip", "netns", "del", c.ns).Run() })
	t.Cleanup(func() { c.removeAll(t) })
	run(t, c.ns, "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6")
	return c
}

// add adds a port.
func (c *idlePorts) add() error {
	i := len(c.ports)
	name := fmt.Sprintf("idle%d", i)
	id, err := plane.AddPort(datapath.PortConfig{
		Name: name, Alias: testAlias + name, VNI: vni, MTU: innerMTU,
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
	if err := netlink.LinkSetGroup(link, idleGroup); err != nil {
		return err
	}
	// Else the kernel makes a queue for each of a multi-queue tap's 256, 6.5 MB in all, and is slow for seconds afterwards.
	none := &netlink.GenericQdisc{QdiscType: "noqueue", QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_ROOT}}
	if err := netlink.QdiscReplace(none); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// addUpTo adds ports until there are so many.
func (c *idlePorts) addUpTo(t testing.TB, size int) {
	t.Helper()
	inNamespace(t, c.ns, func() error {
		for len(c.ports) < size {
			if err := c.add(); err != nil {
				return err
			}
		}
		return nil
	})
}

// removeAll takes every port away.
func (c *idlePorts) removeAll(t testing.TB) {
	t.Helper()
	if len(c.ports) > 0 {
		run(t, c.ns, fmt.Sprintf("ip link del group %d", idleGroup))
	}
	for _, id := range c.ports {
		must(t, plane.DelPort(id))
	}
	c.ports = nil
}
