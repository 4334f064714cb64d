package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/prometheus/procfs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ports binds what the daemon binds. A port that is taken is well where the daemon took it.
func ports(c Config) []Result {
	results := []Result{
		port(c, "udp", fmt.Sprintf(":%d", c.VXLANPort), "--vxlan-port"),
		port(c, "tcp", c.Gossip.String(), "--gossip-port"),
		port(c, "udp", c.Gossip.String(), "--gossip-port"),
	}
	if c.Metrics != "" {
		results = append(results, port(c, "tcp", c.Metrics, "--metrics"))
	}
	return results
}

func port(c Config, network, address, flag string) Result {
	number := address[strings.LastIndex(address, ":")+1:]
	r := Result{"port " + number + "/" + network, OK, "free", ""}
	err := bind(network, address)
	if err == nil {
		return r
	}
	if !errors.Is(err, unix.EADDRINUSE) {
		r.State, r.Seen, r.Cure = Fail, err.Error(), "give "+flag+" one that this host can open"
		return r
	}
	owners, mine := holders(network, number, c.Daemon)
	if mine {
		r.Seen = "the daemon has it"
		return r
	}
	r.State, r.Seen, r.Cure = Fail, "taken by "+strings.Join(owners, ", "), "end what has it, or give "+flag+" another"
	if slices.ContainsFunc(owners, func(o string) bool { return strings.HasPrefix(o, "overlane (") }) {
		r.State, r.Cure = Warn, "give this command the daemon's flags and environment: --control-socket leads to no daemon that has the port"
	}
	return r
}

// bind opens a port and gives it back. The address need not be here yet: that of an underlay's device comes with the daemon.
func bind(network, address string) error {
	config := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		return conn.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) })
	}}
	var bound io.Closer
	var err error
	if network == "tcp" {
		bound, err = config.Listen(context.Background(), network, address)
	} else {
		bound, err = config.ListenPacket(context.Background(), network, address)
	}
	if err != nil {
		return err
	}
	return bound.Close()
}

// unseen is who may have a port when nobody shows.
var unseen = map[string]string{
	"tcp": "a process that does not show: it may be in another PID namespace",
	"udp": "something that does not show: a process in another PID namespace, or a vxlan device that was moved into another network namespace, as Docker does with those of a swarm",
}

// holders names who has a port, and says whether the daemon does.
func holders(network, port string, daemon int) (names []string, mine bool) {
	inodes := inodesOf(network, port)
	processes, err := procfs.AllProcs()
	if err != nil {
		return []string{unseen[network]}, false
	}
	for _, p := range processes {
		targets, err := p.FileDescriptorTargets()
		if err != nil || !slices.ContainsFunc(targets, func(t string) bool { return slices.Contains(inodes, t) }) {
			continue // it ended meanwhile, or is another's
		}
		mine = mine || p.PID == daemon
		name, _ := p.Comm() // empty when it ended meanwhile
		names = append(names, fmt.Sprintf("%s (process %d)", name, p.PID))
	}
	if network == "udp" {
		names = append(names, tunnels(port)...)
	}
	if names == nil {
		names = []string{unseen[network]}
	}
	return names, mine
}

// inodesOf lists the sockets on a port, as /proc/PID/fd writes them.
func inodesOf(network, port string) []string {
	fs, err := procfs.NewFS("/proc/thread-self") // whose net is of the network namespace that this thread is in
	if err != nil {
		return nil
	}
	var inodes []string
	add := func(p, inode uint64) {
		if fmt.Sprint(p) == port {
			inodes = append(inodes, fmt.Sprintf("socket:[%d]", inode))
		}
	}
	if network == "udp" {
		for _, read := range []func() (procfs.NetUDP, error){fs.NetUDP, fs.NetUDP6} {
			lines, _ := read() // a host may lack IPv6
			for _, l := range lines {
				add(l.LocalPort, l.Inode)
			}
		}
		return inodes
	}
	//lint:ignore SA1019 what is advised instead asks for a kernel module that a host may lack
	for _, read := range []func() (procfs.NetTCP, error){fs.NetTCP, fs.NetTCP6} {
		lines, _ := read()
		for _, l := range lines {
			add(l.LocalPort, l.Inode)
		}
	}
	return inodes
}

// tunnels names the kernel's vxlan devices on a port.
func tunnels(port string) []string {
	links, err := netlink.LinkList()
	for errors.Is(err, netlink.ErrDumpInterrupted) { // other interfaces come and go meanwhile
		links, err = netlink.LinkList()
	}
	var names []string
	for _, l := range links {
		if v, ok := l.(*netlink.Vxlan); ok && fmt.Sprint(v.Port) == port {
			names = append(names, fmt.Sprintf("the kernel's vxlan device %s (ip link del %s)", v.Name, v.Name))
		}
	}
	return names
}
