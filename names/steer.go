package names

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// docker is the address of Docker's server in each container, own is ours: it is of this host alone, and of no interface but lo.
var (
	docker = [4]byte{127, 0, 0, 11}
	own    = [4]byte{127, 0, 0, 12}
)

// steer has a network namespace hand what comes for 127.0.0.11 to the sockets, on those ports of which the kernel gives one to who wants
// any, first to last: Docker's rules have redirected port 53 to such a one by then. What comes from 127.0.0.12 goes its way: so
// Docker's server is reached. The link ends with its file.
func steer(namespace, udp, tcp int, first, last uint16) (link.Link, error) {
	sockets, err := ebpf.NewMap(&ebpf.MapSpec{Name: "overlane_dns", Type: ebpf.SockMap, KeySize: 4, ValueSize: 4, MaxEntries: 2})
	if err != nil {
		return nil, fmt.Errorf("map of sockets: %w", err)
	}
	defer sockets.Close() // the program keeps it
	err = errors.Join(sockets.Put(uint32(0), uint32(udp)), sockets.Put(uint32(1), uint32(tcp)))
	if err != nil {
		return nil, fmt.Errorf("map of sockets: %w", err)
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "overlane_dns", Type: ebpf.SkLookup, AttachType: ebpf.AttachSkLookup, License: "Apache-2.0",
		Instructions: steering(sockets.FD(), first, last),
	})
	if err != nil {
		return nil, fmt.Errorf("program that chooses sockets: want Linux 5.9 or later: %w", err)
	}
	defer program.Close() // the link keeps it
	attached, err := link.AttachNetNs(namespace, program)
	if err != nil {
		return nil, fmt.Errorf("attach the program that chooses sockets: %w", err) // and no *link.NetNsLink that is nil
	}
	return attached, nil
}

func steering(sockets int, first, last uint16) asm.Instructions {
	const family, protocol, remote, local, localPort = 8, 12, 16, 40, 60 // of struct bpf_sk_lookup, linux/bpf.h
	const pass = 1                                                       // SK_PASS
	ip := func(a [4]byte) int32 { return int32(binary.NativeEndian.Uint32(a[:])) }
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R2, asm.R6, family, asm.Word),
		asm.JNE.Imm(asm.R2, unix.AF_INET, "pass"),
		asm.LoadMem(asm.R2, asm.R6, local, asm.Word),
		asm.JNE.Imm(asm.R2, ip(docker), "pass"),
		asm.LoadMem(asm.R2, asm.R6, remote, asm.Word),
		asm.JEq.Imm(asm.R2, ip(own), "pass"),
		asm.LoadMem(asm.R2, asm.R6, localPort, asm.Word),
		asm.JLT.Imm(asm.R2, int32(first), "pass"),
		asm.JGT.Imm(asm.R2, int32(last), "pass"),
		asm.LoadMem(asm.R2, asm.R6, protocol, asm.Word),
		asm.Mov.Imm(asm.R3, 0),
		asm.JEq.Imm(asm.R2, unix.IPPROTO_UDP, "choose"),
		asm.Mov.Imm(asm.R3, 1),
		asm.JNE.Imm(asm.R2, unix.IPPROTO_TCP, "pass"),
		asm.StoreMem(asm.RFP, -4, asm.R3, asm.Word).WithSymbol("choose"),
		asm.LoadMapPtr(asm.R1, sockets),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnSkAssign.Call(),
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.FnSkRelease.Call(),
		asm.Mov.Imm(asm.R0, pass).WithSymbol("pass"),
		asm.Return(),
	}
}
