package datapath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/overlane/overlane/datapath/dp"
	"github.com/overlane/overlane/internal/plain"
	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrTapGone says that a tap to be taken back exists no more: its container ended while nobody watched.
var ErrTapGone = errors.New("tap is gone")

// gsoMax keeps the kernel's super-frames within a packet buffer: 64 KiB less the room for headers in front.
const gsoMax = 65400

// openTap takes back the tap that carries the port's alias. In the daemon's own namespace a missing one is made.
func (d *Datapath) openTap(c PortConfig) ([]int, error) {
	fds, err := d.attach(c)
	if c.Netns == "" && errors.Is(err, ErrTapGone) {
		return create(c, len(d.workers))
	}
	return fds, err
}

// attach opens the queues of the port's tap; ErrTapGone when there is certainly none.
func (d *Datapath) attach(c PortConfig) ([]int, error) {
	if c.Netns == "" {
		return attachOwn(c, len(d.workers))
	}
	fds, err := d.attachIn(c.Netns, c)
	if !errors.Is(err, ErrTapGone) {
		return fds, err
	}
	path, err := d.findAnywhere(c)
	if err != nil {
		return nil, err
	}
	d.log.WithFields(logrus.Fields{"port": c.Name, "given": c.Netns, "found": path}).Warn("the interface is in another network namespace than Docker gave it to")
	fds, err = d.attachIn(path, c)
	if errors.Is(err, ErrTapGone) { // it moves, or its namespace has another path
		err = fmt.Errorf("tap %s was in namespace %s a moment ago: it is looked for again", c.Name, path)
	}
	return fds, err
}

func (d *Datapath) attachIn(path string, c PortConfig) (fds []int, err error) {
	err = inNamespace(path, func() error {
		found, err := findTap(c)
		if err == nil {
			fds, err = dp.OpenTap(found.name, len(d.workers)) // which would make one that is not there
		}
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

// InContainer says whether a container has the port's tap, or may have it: false is certain. Docker put it into the namespace at
// c.Netns; a tap elsewhere was moved by the container, or that path is not to be seen by this process. In the daemon's own
// namespace, under its first name, it is given back. A port that is no tap is a container's as long as the namespace is there.
func (d *Datapath) InContainer(c PortConfig) (bool, error) {
	if c.Native != nil {
		return isNamespace(c.Netns)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if id, open := d.aliases[c.Alias]; open {
		// Before Linux 5.2 a tap does not tell.
		if is, err := d.isKept(d.ports[id], c.Netns); err == nil {
			return is, nil
		}
	}
	err := inNamespace(c.Netns, func() error {
		_, err := findTap(c)
		return err
	})
	if errors.Is(err, ErrTapGone) {
		_, err = d.findAnywhere(c)
	}
	if errors.Is(err, ErrTapGone) {
		return false, nil
	}
	return err == nil, err
}

// isKept has the tap itself tell where it is, in a fifth of the time that a look into the namespace takes, and says whether
// somebody else keeps that.
func (d *Datapath) isKept(p *port, netns string) (bool, error) {
	namespace, err := tapNamespace(p.fds[0])
	if errors.Is(err, unix.EBADFD) {
		return false, nil // it is gone, and the file alone is left
	}
	if err != nil {
		return false, err
	}
	if namespace == p.daemonIn {
		ifreq, err := unix.NewIfreq("")
		if err == nil {
			err = unix.IoctlIfreq(p.fds[0], unix.TUNGETIFF, ifreq)
		}
		return ifreq.Name() != p.config.Name, err
	}
	if namespace != p.seenIn {
		p.seenIn, p.seenAt = namespace, time.Now()
	}
	// This process may keep the namespace too, by the file of a tap that it took back there, or by sockets for the container's queries: it
	// is a container's when somebody else does. Who did not when the tap was there already can't come back to it.
	if at, err := inodeAt(netns); err == nil && at == namespace {
		return true, nil
	}
	if d.surveyed(p.seenAt).namespaces[namespace] != "" {
		return true, nil
	}
	return false, d.survey.err
}

// TapState is a port's tap as it is in its container, where somebody may have changed it.
type TapState struct {
	Name   string // that it has there, which the container may have chosen
	Up     bool
	MAC    MAC
	Addrs  []netip.Addr
	Others []netip.Addr // addresses of the namespace's other interfaces
}

// Tap looks at the port's tap in the network namespace at c.Netns: ErrTapGone when it is not there.
func (d *Datapath) Tap(c PortConfig) (s TapState, err error) {
	err = inNamespace(c.Netns, func() error {
		found, err := findTap(c)
		if err != nil {
			return err
		}
		s = TapState{Name: plain.Text(found.name), Up: found.up, MAC: found.mac}
		all, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
		for _, addr := range all {
			ip, _ := netip.AddrFromSlice(addr.IP)
			if addr.LinkIndex == found.index {
				s.Addrs = append(s.Addrs, ip.Unmap())
			} else {
				s.Others = append(s.Others, ip.Unmap())
			}
		}
		return err
	})
	return s, err
}

// tapNamespace is the inode number of the namespace that a tap is in.
func tapNamespace(fd int) (uint64, error) {
	ns, err := unix.IoctlRetInt(fd, unix.TUNGETDEVNETNS)
	if err != nil {
		return 0, err
	}
	defer unix.Close(ns)
	var at unix.Stat_t
	err = unix.Fstat(ns, &at)
	return at.Ino, err
}

// tap is what tells a tap from others.
type tap struct {
	name, alias string
	mac         MAC
	index       int
	up          bool
}

// listTaps lists those of the thread's namespace: in a container there are few.
func listTaps() (taps []tap, err error) {
	links, err := netlink.LinkList()
	for errors.Is(err, netlink.ErrDumpInterrupted) { // other interfaces come and go meanwhile
		links, err = netlink.LinkList()
	}
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, link := range links {
		if a := link.Attrs(); link.Type() == "tuntap" && len(a.HardwareAddr) == len(MAC{}) {
			taps = append(taps, tap{a.Name, a.Alias, MAC(a.HardwareAddr), a.Index, a.Flags&net.FlagUp != 0})
		}
	}
	return taps, nil
}

// findTap looks for the port's tap in the thread's namespace: by the alias, or by the MAC address if its alias was changed.
func findTap(c PortConfig) (tap, error) {
	taps, err := listTaps()
	if err != nil {
		return tap{}, err
	}
	var like []tap
	for _, t := range taps {
		switch {
		case t.alias == c.Alias:
			return t, nil
		case t.mac == c.MAC && !isAnothers(t.alias, c.Alias):
			like = append(like, t)
		}
	}
	switch len(like) {
	case 0:
		return tap{}, ErrTapGone
	case 1:
		return like[0], nil
	}
	var names []string
	for _, t := range like {
		names = append(names, t.name)
	}
	return tap{}, fmt.Errorf("interfaces %v in namespace %s have MAC %s, and none the alias %s: give it to the right one by ip link set NAME alias %s", names, c.Netns, c.MAC, c.Alias, c.Alias)
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
