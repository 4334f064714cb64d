package check

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/datapath/dp"
)

// taps makes a tap as the daemon makes them, with two queues and virtio-net headers, and removes it.
func taps() Result {
	fds, err := dp.OpenTap(fmt.Sprintf("ovcheck%d", os.Getpid()), 2)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return Result{"taps", Fail, "no /dev/net/tun", "modprobe tun; in a container, give it the device /dev/net/tun"}
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return Result{"taps", Fail, "may not make a tap", "run the command as root; in a container, with CAP_NET_ADMIN and the device /dev/net/tun"}
	case err != nil:
		return Result{"taps", Fail, fmt.Sprintf("can't make one with two queues and virtio-net headers: %v", err), "install a kernel that can"}
	}
	dp.CloseTap(fds, false)
	return Result{"taps", OK, "made one with two queues and virtio-net headers by /dev/net/tun, and removed it", ""}
}

// offloads asks for the socket options by which one system call moves many packets.
func offloads() Result {
	const name = "UDP offloads"
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Result{name, Fail, fmt.Sprintf("no UDP socket: %v", err), "allow this process to open sockets"}
	}
	defer unix.Close(fd)
	var missing []string
	for _, o := range []struct {
		name   string
		option int
		since  string
	}{{"UDP_SEGMENT", unix.UDP_SEGMENT, "4.18"}, {"UDP_GRO", unix.UDP_GRO, "5.0"}} {
		if unix.SetsockoptInt(fd, unix.IPPROTO_UDP, o.option, 1) != nil {
			missing = append(missing, fmt.Sprintf("%s, which Linux has since %s", o.name, o.since))
		}
	}
	if missing != nil {
		return Result{name, Warn, "no " + strings.Join(missing, ", and no "), "install a newer kernel: with this one each packet costs a system call"}
	}
	return Result{name, OK, "UDP_SEGMENT and UDP_GRO", ""}
}

// superFrames asks for what gives them to the kernel in one piece.
func superFrames(asked bool) Result {
	switch err := datapath.TryWhole(); {
	case err != nil && !asked:
		return Result{"super-frames", OK, "overlane itself cuts them up: " + err.Error(), ""}
	case err != nil:
		return Result{"super-frames", Fail, err.Error(), "install Linux 6.17 or later and give the daemon CAP_NET_ADMIN and CAP_SYS_ADMIN, or drop --underlay " + datapath.UnderlayTun}
	}
	return Result{"super-frames", OK, "a tap takes them inside of VXLAN, and passes them on", ""}
}

// xdp asks for what net_af_xdp needs of the kernel.
func xdp(device string) Result {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.EPERM):
		return Result{"AF_XDP", Fail, "may not open a socket of it", "run the command as root; in a container, with CAP_NET_RAW"}
	case err != nil:
		return Result{"AF_XDP", Fail, fmt.Sprintf("the kernel has none: %v", err), fmt.Sprintf("install a kernel with CONFIG_XDP_SOCKETS, or drop --underlay %s: then the kernel's UDP sockets carry VXLAN", device)}
	}
	unix.Close(fd)
	return Result{"AF_XDP", OK, "the kernel has it", ""}
}
