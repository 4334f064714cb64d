package datapath

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// answerTime is how long an answer may take: a path by satellite takes more than half of it.
	answerTime = time.Second
	// longestProbe is the longest that an IP packet can be.
	longestProbe = 65535
	vxlanHeader  = 8
	// nonce bytes behind it tell an answer from what somebody makes up.
	nonce = 8
)

// probe is a packet under way.
type probe struct {
	conn    *net.UDPConn
	to      netip.Addr
	payload []byte
}

// sendProbe sends a packet of so many bytes to a VTEP that no router may cut up, whatever the kernel believes of the path;
// without a source the kernel chooses one. It looks like VXLAN, which gets its way where other packets do not; who receives it drops it for its flags. The
// socket is made in the network namespace of the calling thread.
func sendProbe(from netip.Addr, to netip.AddrPort, size int) (*probe, error) {
	const udpHeader = 8
	level, ipHeader := unix.SOL_IP, 20
	options := [][2]int{{unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE}, {unix.IP_RECVERR, 1}}
	if to.Addr().Is6() {
		level, ipHeader = unix.SOL_IPV6, 40
		options = [][2]int{{unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE}, {unix.IPV6_DONTFRAG, 1}, {unix.IPV6_RECVERR, 1}}
	}
	dialer := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Control: func(_, _ string, conn syscall.RawConn) (err error) {
		failed := conn.Control(func(fd uintptr) {
			for _, o := range options {
				err = errors.Join(err, unix.SetsockoptInt(int(fd), level, o[0], o[1]))
			}
		})
		return errors.Join(err, failed)
	}}
	if !from.IsValid() {
		dialer.LocalAddr = nil
	}
	conn, err := dialer.Dial("udp", to.String())
	if err != nil {
		return nil, err
	}
	p := &probe{conn.(*net.UDPConn), to.Addr(), make([]byte, max(size-ipHeader-udpHeader, vxlanHeader+nonce))}
	rand.Read(p.payload[vxlanHeader : vxlanHeader+nonce]) // never fails (crypto/rand)
	// Where this host itself can't send so much, the error's queue says what it can.
	if _, err := p.conn.Write(p.payload); err != nil && !errors.Is(err, unix.EMSGSIZE) {
		p.conn.Close()
		return nil, err
	}
	return p, nil
}

// answer waits for what the kernel, or a router on the way, says that the path carries; 0: nobody says anything. A router has to quote
// the nonce, as RFC 1812 section 4.3.2.3 and RFC 4443 section 3.2 have it: without, whoever guesses the port is a router.
func (p *probe) answer() (mtu int) {
	defer p.conn.Close()
	raw, err := p.conn.SyscallConn()
	if err != nil || p.conn.SetReadDeadline(time.Now().Add(answerTime)) != nil {
		return 0
	}
	answered := false
	raw.Read(func(fd uintptr) bool {
		for !answered {
			quoted, control := make([]byte, vxlanHeader+nonce), make([]byte, 512)
			n, controlLen, _, _, err := unix.Recvmsg(int(fd), quoted, control, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
			if err != nil {
				return !errors.Is(err, unix.EAGAIN)
			}
			found, local, ok := tooLong(control[:controlLen])
			if ok && (local || bytes.HasPrefix(p.payload, quoted) && n == len(quoted) && believable(found, p.to)) {
				mtu, answered = found, true
			}
		}
		return true
	})
	if answered && mtu == 0 {
		mtu = 1 // a router that does not say: see leastMTU
	}
	return mtu
}

// believable says whether a router may say so: RFC 8201 section 4 has less than every path carries discarded. Who does not say what the
// path carries says 0.
func believable(mtu int, to netip.Addr) bool { return mtu == 0 || mtu >= leastMTU(to) }

// tooLong reads an EMSGSIZE of a socket's error queue: struct sock_extended_err of linux/errqueue.h, which ip(7) describes. This host's
// own kernel says so where it is local.
func tooLong(control []byte) (mtu int, local, ok bool) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0, false, false
	}
	for _, m := range messages {
		isError := m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_RECVERR || m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_RECVERR
		if isError && len(m.Data) >= 16 && syscall.Errno(binary.NativeEndian.Uint32(m.Data)) == unix.EMSGSIZE {
			return int(min(binary.NativeEndian.Uint32(m.Data[8:]), longestProbe)), m.Data[4] == unix.SO_EE_ORIGIN_LOCAL, true
		}
	}
	return 0, false, false
}
