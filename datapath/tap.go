package datapath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/overlane/overlane/datapath/dp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrTapGone says that a tap to be taken back exists no more: its container ended while nobody watched.
var ErrTapGone = errors.New("tap is gone")

// gsoMax keeps the kernel's super-frames within a packet buffer: 64 KiB less the room for headers in front.
const gsoMax = 65400

// openTap takes back the tap that carries the port's alias. In the daemon's own namespace a missing one is made.
func openTap(c PortConfig, queues int) ([]int, error) {
	fds, err := attach(c, queues)
	if c.Netns == "" && errors.Is(err, ErrTapGone) {
		return create(c, queues)
	}
	return fds, err
}

// attach opens the queues of the port's tap; ErrTapGone when there is none.
func attach(c PortConfig, queues int) (fds []int, err error) {
	if c.Netns == "" {
		return attachOwn(c, queues)
	}
	err = inNamespace(c.Netns, func() error {
		name, err := findTap(c.Alias)
		if err != nil {
			return err
		}
		fds, err = dp.OpenTap(name, queues)
		return err
	})
	return fds, err
}

// attachOwn looks by name: Docker gives a tap back under the name that it had, and a search among all of a host's taps,
// for each of them, takes time by the square of their number.
func attachOwn(c PortConfig, queues int) ([]int, error) {
	link, err := netlink.LinkByName(c.Name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, ErrTapGone
	}
	if err != nil {
		return nil, fmt.Errorf("look for tap %s: %w", c.Name, err)
	}
	switch alias := link.Attrs().Alias; {
	case alias == "":
		return nil, ErrTapGone // the daemon died before it had made it whole
	case link.Type() != "tuntap" || alias != c.Alias:
		return nil, fmt.Errorf("make tap %s: an interface of that name is there, with alias %q instead of %q: remove it", c.Name, alias, c.Alias)
	}
	return dp.OpenTap(c.Name, queues)
}

// HasTap says whether the network namespace at a path has the tap with an alias. A namespace that is gone has none.
func (d *Datapath) HasTap(path, alias string) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if id, open := d.aliases[alias]; open {
		// Before Linux 5.2 a tap does not tell.
		if is, err := tapIn(d.ports[id].fds[0], path); err == nil {
			return is, nil
		}
	}
	err := inNamespace(path, func() error {
		_, err := findTap(alias)
		return err
	})
	if errors.Is(err, ErrTapGone) {
		return false, nil
	}
	return err == nil, err
}

// tapIn has the tap itself tell where it is: in a fifth of the time that a look at the namespace takes.
func tapIn(fd int, path string) (bool, error) {
	ns, err := unix.IoctlRetInt(fd, unix.TUNGETDEVNETNS)
	if errors.Is(err, unix.EBADFD) {
		return false, nil // it is gone, and the file alone is left
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(ns)
	var is, want unix.Stat_t
	if err := unix.Fstat(ns, &is); err != nil {
		return false, err
	}
	err = unix.Stat(path, &want)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil && is.Dev == want.Dev && is.Ino == want.Ino, err
}

// TapAddrs gives the addresses of the tap with an alias in the network namespace at a path, once it is up: ErrTapGone when it is not
// there.
func (d *Datapath) TapAddrs(path, alias string) (addrs []netip.Addr, up bool, err error) {
	err = inNamespace(path, func() error {
		name, err := findTap(alias)
		if err != nil {
			return err
		}
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		up = link.Attrs().Flags&net.FlagUp != 0
		all, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		for _, a := range all {
			if addr, ok := netip.AddrFromSlice(a.IP); ok {
				addrs = append(addrs, addr.Unmap())
			}
		}
		return err
	})
	return addrs, up, err
}

// findTap looks for the alias: in a container the tap has another name, and little company.
func findTap(alias string) (string, error) {
	links, err := netlink.LinkList()
	for errors.Is(err, netlink.ErrDumpInterrupted) { // other interfaces come and go meanwhile
		links, err = netlink.LinkList()
	}
	if err != nil {
		return "", fmt.Errorf("list interfaces: %w", err)
	}
	for _, link := range links {
		if link.Type() == "tuntap" && link.Attrs().Alias == alias {
			return link.Attrs().Name, nil
		}
	}
	return "", ErrTapGone
}

func create(c PortConfig, queues int) ([]int, error) {
	fds, err := dp.OpenTap(c.Name, queues)
	if err != nil {
		return nil, fmt.Errorf("make tap %s: %w", c.Name, err)
	}
	if err := configure(c); err != nil {
		dp.CloseTap(fds, false)
		return nil, fmt.Errorf("tap %s: %w", c.Name, err)
	}
	return fds, nil
}

func configure(c PortConfig) error {
	link, err := netlink.LinkByName(c.Name)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetAlias(link, c.Alias); err != nil {
		return fmt.Errorf("set alias: %w", err)
	}
	if err := netlink.LinkSetHardwareAddr(link, c.MAC[:]); err != nil {
		return fmt.Errorf("set MAC %s: %w", c.MAC, err)
	}
	if err := netlink.LinkSetMTU(link, c.MTU); err != nil {
		return fmt.Errorf("set MTU %d: %w", c.MTU, err)
	}
	if err := netlink.LinkSetGSOMaxSize(link, gsoMax); err != nil {
		return fmt.Errorf("set gso_max_size %d: %w", gsoMax, err)
	}
	return nil
}

// inNamespace calls f on a thread that is in the network namespace at path, or in the daemon's own when path is empty.
func inNamespace(path string, f func() error) error {
	if path == "" {
		return f()
	}
	target, err := netns.GetFromPath(path)
	if errors.Is(err, os.ErrNotExist) {
		return ErrTapGone
	}
	if err != nil {
		return fmt.Errorf("namespace %s: %w", path, err)
	}
	defer target.Close()
	runtime.LockOSThread()
	own, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("own namespace: %w", err)
	}
	defer own.Close()
	if err := netns.Set(target); err != nil {
		runtime.UnlockOSThread()
		// Docker leaves the file at its path for a while when it has taken the namespace off it.
		if errors.Is(err, unix.EINVAL) {
			return ErrTapGone
		}
		return fmt.Errorf("enter namespace %s: %w", path, err)
	}
	result := f()
	if err := netns.Set(own); err != nil {
		// The thread stays locked, and so ends with its goroutine instead of serving others from a container.
		return errors.Join(result, fmt.Errorf("return from namespace %s: %w", path, err))
	}
	runtime.UnlockOSThread()
	return result
}
