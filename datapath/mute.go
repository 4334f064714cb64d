package datapath

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// mute has net_af_packet receive nothing on an interface of which it would read copies. What the kernel has in one piece, as a Linux
// VTEP behind a veth sends it, its sockets take in one piece, with what it knows of the segments in it; a copy does not tell of them,
// and is cut at the length of a buffer.
func mute(ifindex int) error {
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	muted := 0
	nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
	for _, file := range files {
		fd, err := strconv.Atoi(file.Name())
		if err != nil {
			continue
		}
		addr, err := unix.Getsockname(fd)
		if packets, ok := addr.(*unix.SockaddrLinklayer); err != nil || !ok || packets.Ifindex != ifindex {
			continue
		}
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(nothing)), Filter: &nothing[0]}); err != nil {
			return fmt.Errorf("packet socket on interface %d: %w", ifindex, err)
		}
		muted++
	}
	if muted == 0 {
		return fmt.Errorf("no packet socket on interface %d is found: each packet would arrive twice", ifindex)
	}
	return nil
}
