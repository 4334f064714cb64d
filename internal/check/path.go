package check

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/overlay"
)

const (
	tries     = 3                      // of an echo, which may get lost
	echoTime  = 200 * time.Millisecond // that an answer may take
	smallest4 = 576                    // bytes that every IPv4 host takes, RFC 791
	smallest6 = 1280                   // and that every IPv6 path carries, RFC 8200
	longest   = 65535                  // bytes of an IP packet; lo carries more
)

// path says how long a container's packet to a peer may be.
func path(c Config, p Peer) Result {
	r := Result{"path to " + p.Name, OK, "", ""}
	if c.UnderlayMTU == 0 {
		r.State, r.Seen, r.Cure = Warn, fmt.Sprintf("not measured: %s is on this host while the daemon runs", c.VTEP), "start the daemon, and check again"
		return r
	}
	most, err := datapath.RouteMTU(c.VTEP, p.VTEP.Addr())
	if err != nil {
		r.State, r.Seen, r.Cure = Fail, err.Error(), "see to this host's routes"
		return r
	}
	mtu, err := pathMTU(c.VTEP, p.VTEP.Addr(), min(most, longest))
	if err != nil {
		r.State, r.Seen, r.Cure = Warn, fmt.Sprintf("not measured: %v", err), "let the hosts' firewalls pass ICMP echo between "+c.VTEP.String()+" and "+p.VTEP.Addr().String()
		return r
	}
	return fits(r, c, mtu)
}

// fits says whether containers' packets fit a path of so many bytes.
func fits(r Result, c Config, path int) Result {
	plain, encrypted := c.NetworkMTU, c.EncryptedMTU
	if first := overlay.InnerMTU(c.UnderlayMTU, c.VTEP, c.Encrypt); plain == 0 && encrypted == 0 && c.Encrypt {
		encrypted = first
	} else if plain == 0 && encrypted == 0 {
		plain = first
	}
	var seen []string
	least, needed := longest, 0
	look := func(who string, wanted int, encrypted bool) {
		if wanted == 0 {
			return
		}
		most := overlay.InnerMTU(path, c.VTEP, encrypted)
		seen = append(seen, fmt.Sprintf("%s may have up to %d, and get %d", who, most, wanted))
		if most < wanted {
			least, needed = min(least, most), max(needed, overlay.PathMTU(wanted, c.VTEP, encrypted))
		}
	}
	look("containers", plain, false)
	look("containers of encrypted networks", encrypted, true)
	r.Seen = fmt.Sprintf("MTU %d: %s", path, strings.Join(seen, "; "))
	if needed > 0 {
		r.State = Fail
		r.Cure = fmt.Sprintf("raise the MTU of what lies between to %d, or make networks with -o %s=%d on every host", needed, overlay.OptionMTU, least)
	}
	return r
}

// pathMTU is that between two addresses, up to most, which this host's route carries. What routers say of it is not believed: many
// say nothing.
func pathMTU(from, to netip.Addr, most int) (int, error) {
	p, err := newPinger(from, to)
	if err != nil {
		return 0, err
	}
	defer p.conn.Close()
	if p.answered(most) {
		return most, nil
	}
	least := smallest4
	if to.Is6() {
		least = smallest6
	}
	if !p.answered(least) {
		return 0, fmt.Errorf("%s answers no ICMP echo", to)
	}
	for most-least > 1 {
		if middle := (least + most) / 2; p.answered(middle) {
			least = middle
		} else {
			most = middle
		}
	}
	return least, nil
}

// pinger sends echoes that no router may cut up, and that pay no heed to what the kernel believes of the path.
type pinger struct {
	conn           *net.IPConn
	request, reply icmp.Type
	protocol       int // of the replies
	header         int // bytes of IP's
	seq            int
}

func newPinger(from, to netip.Addr) (*pinger, error) {
	p := &pinger{request: ipv4.ICMPTypeEcho, reply: ipv4.ICMPTypeEchoReply, protocol: unix.IPPROTO_ICMP, header: ipv4.HeaderLen}
	network := "ip4:icmp"
	options := [][3]int{{unix.SOL_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE}}
	if to.Is6() {
		p = &pinger{request: ipv6.ICMPTypeEchoRequest, reply: ipv6.ICMPTypeEchoReply, protocol: unix.IPPROTO_ICMPV6, header: ipv6.HeaderLen}
		network = "ip6:ipv6-icmp"
		options = [][3]int{{unix.SOL_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE}, {unix.SOL_IPV6, unix.IPV6_DONTFRAG, 1}}
	}
	dialer := net.Dialer{LocalAddr: &net.IPAddr{IP: from.AsSlice()}, Control: func(_, _ string, conn syscall.RawConn) (err error) {
		failed := conn.Control(func(fd uintptr) {
			for _, o := range options {
				err = errors.Join(err, unix.SetsockoptInt(int(fd), o[0], o[1], o[2]))
			}
		})
		return errors.Join(err, failed)
	}}
	conn, err := dialer.Dial(network, to.String())
	if err != nil {
		return nil, err
	}
	p.conn = conn.(*net.IPConn)
	return p, nil
}

// answered says whether an IP packet of so many bytes comes back.
func (p *pinger) answered(size int) bool {
	for range tries {
		p.seq++
		echo := icmp.Message{Type: p.request, Body: &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: p.seq, Data: make([]byte, size-p.header-8)}}
		packet, err := echo.Marshal(nil)
		if err != nil {
			return false
		}
		// An error may be an earlier packet's: a router's word about it.
		if _, err := p.conn.Write(packet); err == nil && p.hears(len(packet)) {
			return true
		}
	}
	return false
}

// hears waits for a reply of a length.
func (p *pinger) hears(length int) bool {
	p.conn.SetReadDeadline(time.Now().Add(echoTime))
	buffer := make([]byte, 1<<16)
	for {
		n, _, err := p.conn.ReadFromIP(buffer)
		if err != nil {
			return false
		}
		m, err := icmp.ParseMessage(p.protocol, buffer[:n])
		if err != nil || m.Type != p.reply || n != length {
			continue
		}
		if echo, ok := m.Body.(*icmp.Echo); ok && echo.ID == os.Getpid()&0xffff {
			return true
		}
	}
}
