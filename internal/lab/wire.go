package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Impairment is what a bad wire does to each frame, with the given probability, in both directions.
type Impairment struct {
	Loss      float64
	Duplicate float64
	Reorder   float64 // a frame lets reorderDistance others pass
}

const reorderDistance = 3

// segmentation is what ethtool must switch off, so that the wire carries packets of its MTU one by one.
var segmentation = []string{"gso", "off", "tso", "off", "tx-udp-segmentation", "off"}

// Impair makes the wire of one host a bad one, until the returned function is called. The frames pass through this process:
// netem would do the same where the kernel has it, which many small kernels have not.
func Impair(ctx context.Context, h *Host, bad Impairment) (restore func() error, err error) {
	plug, err := h.plug(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := h.Exec(ctx, append([]string{"ethtool", "-K", "eth0"}, segmentation...)...); err != nil {
		return nil, err
	}
	socket, patch, err := patchCable(ctx, plug)
	if err != nil {
		return nil, err
	}
	relay, err := startRelay(plug.Attrs().Index, patch.Attrs().Index, bad)
	if err != nil {
		return nil, errors.Join(err, netlink.LinkDel(patch))
	}
	return sync.OnceValue(func() error {
		return errors.Join(relay.stop(), netlink.LinkDel(patch), netlink.LinkSetMasterByIndex(plug, socket))
	}), nil
}

// Unplug pulls the host's eth0 out of the wire, until the returned function puts it back.
func Unplug(ctx context.Context, h *Host) (restore func() error, err error) {
	plug, err := h.plug(ctx)
	if err != nil {
		return nil, err
	}
	return func() error { return netlink.LinkSetMasterByIndex(plug, plug.Attrs().MasterIndex) }, netlink.LinkSetNoMaster(plug)
}

// plug finds the end of the host's eth0 that sticks in the bridge.
func (h *Host) plug(ctx context.Context) (netlink.Link, error) {
	out, err := h.Exec(ctx, "cat", "/sys/class/net/eth0/iflink")
	if err != nil {
		return nil, err
	}
	index, err := strconv.Atoi(out)
	if err != nil {
		return nil, fmt.Errorf("iflink of eth0 on %s: %w", h.Name, err)
	}
	return netlink.LinkByIndex(index)
}

// patchCable pulls the plug out of its bridge and puts one end of a new veth pair in its place. It gives the index of the
// bridge and the other end of the pair.
func patchCable(ctx context.Context, plug netlink.Link) (bridge int, patch netlink.Link, err error) {
	bridge = plug.Attrs().MasterIndex
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "patch" + strconv.Itoa(plug.Attrs().Index)
	peer := attrs.Name + "b"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: peer}); err != nil {
		return 0, nil, fmt.Errorf("veth pair %s: %w", attrs.Name, err)
	}
	defer func() {
		if err != nil {
			netlink.LinkDel(&netlink.Veth{LinkAttrs: attrs})
		}
	}()
	if _, err := run(exec.CommandContext(ctx, "ethtool", append([]string{"-K", peer}, segmentation...)...)); err != nil {
		return 0, nil, err
	}
	ends := [2]netlink.Link{}
	for i, name := range []string{attrs.Name, peer} {
		if ends[i], err = netlink.LinkByName(name); err != nil {
			return 0, nil, err
		}
		if err := netlink.LinkSetUp(ends[i]); err != nil {
			return 0, nil, err
		}
	}
	if err := netlink.LinkSetNoMaster(plug); err != nil {
		return 0, nil, err
	}
	if err := netlink.LinkSetMasterByIndex(ends[1], bridge); err != nil {
		return 0, nil, errors.Join(err, netlink.LinkSetMasterByIndex(plug, bridge))
	}
	return bridge, ends[0], nil
}

// relay carries frames between two interfaces.
type relay struct {
	sockets [2]int
	group   errgroup.Group
	stopped chan struct{}
}

func startRelay(a, b int, bad Impairment) (*relay, error) {
	r := &relay{stopped: make(chan struct{})}
	for i, index := range []int{a, b} {
		socket, err := packetSocket(index)
		if err != nil {
			return nil, fmt.Errorf("packet socket on interface %d: %w", index, err)
		}
		r.sockets[i] = socket
	}
	r.group.Go(func() error { return r.carry(r.sockets[0], r.sockets[1], bad) })
	r.group.Go(func() error { return r.carry(r.sockets[1], r.sockets[0], bad) })
	return r, nil
}

func (r *relay) stop() error {
	close(r.stopped)
	err := r.group.Wait()
	return errors.Join(err, unix.Close(r.sockets[0]), unix.Close(r.sockets[1]))
}

// packetSocket reads and writes the frames of one interface, each behind a virtio-net header that keeps the state of its checksum.
func packetSocket(index int) (int, error) {
	const protocol = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8 // in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	// The timeout lets go of frames held back when no others follow.
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 2000}),
		unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC}),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: index}),
	)
	if err != nil {
		unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

func (r *relay) carry(from, to int, bad Impairment) error {
	type held struct {
		frame []byte
		wait  int // frames to let pass
	}
	var late []held
	release := func(passed int) {
		kept := late[:0]
		for _, h := range late {
			if h.wait -= passed; h.wait > 0 {
				kept = append(kept, h)
			} else {
				unix.Write(to, h.frame)
			}
		}
		late = kept
	}
	buffer := make([]byte, 1<<17)
	for {
		select {
		case <-r.stopped:
			return nil
		default:
		}
		n, err := unix.Read(from, buffer)
		switch {
		case errors.Is(err, unix.EAGAIN):
			release(reorderDistance)
			continue
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN):
			continue
		case err != nil:
			return fmt.Errorf("wire: %w", err)
		}
		frame := buffer[:n]
		switch chance := rand.Float64(); {
		case chance < bad.Loss:
		case chance < bad.Loss+bad.Reorder:
			late = append(late, held{append([]byte(nil), frame...), reorderDistance})
			continue
		case chance < bad.Loss+bad.Reorder+bad.Duplicate:
			unix.Write(to, frame)
			unix.Write(to, frame)
		default:
			unix.Write(to, frame)
		}
		release(1)
	}
}
