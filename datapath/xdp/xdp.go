// Package xdp has the program by which DPDK's net_af_xdp takes VXLAN from a kernel's interface, and nothing else: what is
// not VXLAN for this host's VTEP stays with the kernel.
package xdp

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
)

// Object is filter.c as `make xdp` compiles it, an ELF file for net_af_xdp's argument xdp_prog.
//
//go:embed filter.o
var Object []byte

const (
	programName = "overlane_vxlan"
	wantedName  = "vxlan_wanted"
)

// wanted is filter.c's struct of that name.
type wanted struct {
	Addr [16]byte
	Port [2]byte
}

// Redirect has our program on the interface redirect VXLAN for the VTEP; before, it takes nothing.
func Redirect(ifindex int, vtep netip.AddrPort) error {
	link, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return fmt.Errorf("interface %d: %w", ifindex, err)
	}
	program, info, err := attached(link)
	if err != nil {
		return err
	}
	if program == nil {
		return fmt.Errorf("interface %s has no XDP program", link.Attrs().Name)
	}
	defer program.Close()
	filter, err := mapOf(info, wantedName)
	if err != nil {
		return fmt.Errorf("XDP program of interface %s: %w", link.Attrs().Name, err)
	}
	defer filter.Close()
	w := wanted{Addr: vtep.Addr().As16()}
	binary.BigEndian.PutUint16(w.Port[:], vtep.Port())
	return filter.Put(uint32(0), w)
}

// Detach takes our program off the interface, where a daemon that was killed has left it. Another program is an error.
func Detach(link netlink.Link) error {
	program, info, err := attached(link)
	if err != nil || program == nil {
		return err
	}
	defer program.Close()
	if info.Name != programName {
		return fmt.Errorf("interface %s has the XDP program %q: take it off with `ip link set %s xdp off`", link.Attrs().Name, info.Name, link.Attrs().Name)
	}
	return netlink.LinkSetXdpFd(link, -1)
}

// attached is nil when the interface has no program.
func attached(link netlink.Link) (*ebpf.Program, *ebpf.ProgramInfo, error) {
	xdp := link.Attrs().Xdp
	if xdp == nil || !xdp.Attached {
		return nil, nil, nil
	}
	program, err := ebpf.NewProgramFromID(ebpf.ProgramID(xdp.ProgId))
	if err != nil {
		return nil, nil, fmt.Errorf("XDP program of interface %s: %w", link.Attrs().Name, err)
	}
	info, err := program.Info()
	if err != nil {
		program.Close()
		return nil, nil, fmt.Errorf("XDP program of interface %s: %w", link.Attrs().Name, err)
	}
	return program, info, nil
}

func mapOf(info *ebpf.ProgramInfo, name string) (*ebpf.Map, error) {
	ids, _ := info.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return nil, err
		}
		if about, err := m.Info(); err == nil && about.Name == name {
			return m, nil
		}
		m.Close()
	}
	return nil, errors.New("it is not overlane's")
}
