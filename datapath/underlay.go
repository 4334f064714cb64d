package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"syscall"

	"github.com/overlane/overlane/datapath/dp"
	"github.com/overlane/overlane/datapath/xdp"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// Packet buffers for the underlay's device: what its rings hold, for each worker and once for bursts under way.
const deviceBuffers = 8192

// HostTap is the host's own interface on a device that the kernel does not share.
const HostTap = "overlane0"

var pciAddress = regexp.MustCompile(`^([0-9a-fA-F]{4,}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7](,|$)`)

// Names that stand for no device.
const (
	UnderlayUDP = "udp" // the kernel's sockets alone
	UnderlayTun = "tun" // those, and a tap by which super-frames leave in one piece
)

// Underlay says what carries VXLAN.
type Underlay struct {
	// Empty: the kernel's UDP sockets, and a tap where the kernel allows it and for hosts that are known to take what it sends; see
	// SetTakeWhole. UnderlayUDP, UnderlayTun: as they say. Else a DPDK device: a PCI address, the name of a kernel's interface (by net_af_xdp, which
	// takes VXLAN alone), or DPDK's devargs of a virtual device, such as net_memif0,role=client.
	Device string
	// The VTEP's address on a device that the kernel does not share: HostTap gets it.
	Addr netip.Prefix
}

// sockets tells whether there is no device.
func (u Underlay) sockets() bool {
	return u.Device == "" || u.Device == UnderlayUDP || u.Device == UnderlayTun
}

// KernelInterface tells whether the device is named by the kernel's name for it.
func (u Underlay) KernelInterface() bool {
	return !u.sockets() && !strings.HasPrefix(u.Device, "net_") && !pciAddress.MatchString(u.Device)
}

// pci is the device where it is a PCI device: DPDK takes no other one.
func (u Underlay) pci() string {
	if pciAddress.MatchString(u.Device) {
		return u.Device
	}
	return ""
}

// Check finds what is wrong without opening the device.
func (u Underlay) Check() error {
	if u.Addr.IsValid() && u.sockets() {
		return errors.New("the kernel's sockets use an address that the host has: the underlay's address is for a device")
	}
	if strings.HasPrefix(u.Device, "net_af_xdp") && !strings.Contains(u.Device, "xdp_prog=") {
		return errors.New("net_af_xdp without xdp_prog takes all that the interface receives from the host: name the interface alone, and VXLAN alone is taken")
	}
	if !u.KernelInterface() {
		return nil
	}
	if _, err := netlink.LinkByName(u.Device); err != nil {
		return fmt.Errorf("no interface of this host is called so (%w)", err)
	}
	return nil
}

// reconnects tells whether the device has to look for its peer again and again: net_memif's client, which it is unless told.
func (u Underlay) reconnects() bool {
	return strings.HasPrefix(u.Device, "net_memif") && !strings.Contains(u.Device, "role=server")
}

// device is the underlay's ethdev.
type device struct {
	dp.Device
	Underlay
	id       uint32
	host     *uint32
	hostFDs  []int
	nextHops *nextHops
}

// makeHostTap comes before DPDK starts, whose sockets want the VTEP's address.
func (u Underlay) makeHostTap(workers int) (fds []int, err error) {
	if fds, err = dp.OpenTap(HostTap, workers); err != nil {
		return nil, fmt.Errorf("make tap %s: %w", HostTap, err)
	}
	// A daemon that is killed takes its address along, and the route with it.
	err = unix.IoctlSetInt(fds[0], unix.TUNSETPERSIST, 0)
	link, notFound := netlink.LinkByName(HostTap)
	if err = errors.Join(err, notFound); err == nil {
		addr := &netlink.Addr{IPNet: netipx.PrefixIPNet(u.Addr), Flags: unix.IFA_F_NODAD}
		err = errors.Join(netlink.AddrReplace(link, addr), netlink.LinkSetGSOMaxSize(link, gsoMax), netlink.LinkSetUp(link))
	}
	if err != nil {
		dp.CloseTap(fds, false)
		return nil, fmt.Errorf("tap %s with address %s: %w", HostTap, u.Addr, err)
	}
	return fds, nil
}

// devargs are DPDK's for the device. done is called when it is open, or is not to be.
func (u Underlay) devargs(workers int) (args string, done func(), err error) {
	if !u.KernelInterface() {
		return u.Device, func() {}, nil
	}
	link, err := netlink.LinkByName(u.Device)
	if err != nil {
		return "", nil, err
	}
	if err := xdp.Detach(link); err != nil {
		return "", nil, err
	}
	file, err := os.CreateTemp("", "overlane-xdp-*.o")
	if err != nil {
		return "", nil, err
	}
	_, err = file.Write(xdp.Object)
	if err = errors.Join(err, file.Close()); err != nil {
		os.Remove(file.Name())
		return "", nil, err
	}
	return fmt.Sprintf("net_af_xdp0,iface=%s,queue_count=%d,xdp_prog=%s", u.Device, workers, file.Name()), func() { os.Remove(file.Name()) }, nil
}

// openDevice opens the underlay's device and has VXLAN taken from it.
func openDevice(u Underlay, vtep netip.AddrPort, hostFDs []int, workers int) (dev *device, err error) {
	args, done, err := u.devargs(workers)
	if err != nil {
		return nil, err
	}
	defer done()
	dev = &device{Underlay: u, hostFDs: hostFDs}
	switch dev.id, err = dp.OpenDevice(args); {
	case errors.Is(err, syscall.ENOTSUP):
		return nil, fmt.Errorf("the device has fewer queues than the %d workers", workers)
	case errors.Is(err, syscall.ENODEV):
		return nil, errors.New("no such device, or its driver refused it: the log says more")
	case err != nil:
		return nil, err
	}
	defer func() {
		if err != nil {
			dev.close()
		}
	}()
	if dev.Device, err = dp.DeviceInfo(dev.id); err != nil {
		return dev, err
	}
	if !dev.Up && !u.reconnects() {
		return dev, errors.New("the device does not start: the log says more")
	}
	// Shared before it is polled: a packet must not come both ways.
	if dev.Ifindex != 0 {
		if err = dev.redirectVXLAN(vtep); err != nil {
			return dev, err
		}
	}
	if err = dp.SetUnderlay(dev.id); err != nil || dev.Ifindex != 0 {
		return dev, err
	}
	return dev, dev.attachHost()
}

// redirectVXLAN takes VXLAN from an interface that stays the kernel's for everything else, or leaves that to the sockets.
func (dev *device) redirectVXLAN(vtep netip.AddrPort) error {
	if dev.Addr.IsValid() {
		return errors.New("the kernel shares the device: leave the underlay address out, since the VTEP's is one that the host has")
	}
	if dev.KernelInterface() {
		return xdp.Redirect(dev.Ifindex, vtep)
	}
	if dev.Driver == "net_af_packet" {
		return mute(dev.Ifindex)
	}
	return dp.IgnoreInterface(dev.Ifindex)
}

// attachHost gives the device's MAC and MTU to the host's tap, and the tap to the pipeline.
func (dev *device) attachHost() error {
	if dev.hostFDs == nil {
		return errors.New("the device is overlane's alone: give it an underlay address")
	}
	link, err := netlink.LinkByName(HostTap)
	if err == nil {
		err = errors.Join(netlink.LinkSetHardwareAddr(link, dev.MAC[:]), netlink.LinkSetMTU(link, dev.MTU))
	}
	if err != nil {
		return fmt.Errorf("tap %s with MAC %s and MTU %d: %w", HostTap, MAC(dev.MAC), dev.MTU, err)
	}
	host, err := dp.SetHost(dev.id, dev.hostFDs)
	if err != nil {
		return fmt.Errorf("tap %s: %w", HostTap, err)
	}
	dev.host, dev.Ifindex = &host, link.Attrs().Index
	return nil
}

// close gives the device back to whoever had it; no VTEP may lead through it any more.
func (dev *device) close() error {
	var err error
	if dev.host != nil {
		err = dp.DelPort(*dev.host)
	}
	return errors.Join(err, dp.CloseDevice(dev.id))
}

// Move has VXLAN leave from another address of this host, of the same family. Packets under way are not lost by it.
func (d *Datapath) Move(to netip.Addr) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return errClosed
	case d.device != nil:
		return fmt.Errorf("the underlay %q keeps the address that it was opened with: restart overlane", d.device.Underlay.Device)
	}
	for _, v := range d.vteps {
		d.setWhole(v, wholeWay{})
	}
	err := dp.MoveVTEP(to)
	if err == nil {
		d.paths.move(to)
	} else {
		err = fmt.Errorf("send VXLAN from %s: %w", to, err)
	}
	for _, v := range d.vteps {
		d.paths.lookAtWhole(v)
	}
	return err
}

// UnderlayMTU is what the underlay's device carries, in bytes of outer IP packet; 0: what the kernel's interface does.
func (d *Datapath) UnderlayMTU() int {
	if d.device == nil {
		return 0
	}
	return d.device.MTU
}
