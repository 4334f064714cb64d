package datapath_test

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/datapath"
)

// association is a key for one direction, as the peer has it.
type association struct {
	config datapath.SAConfig
	aead   cipher.AEAD
}

func newAssociation(seed uint32, keyLen int) association {
	a := association{config: datapath.SAConfig{SPI: 0x11000000 | seed, Key: make([]byte, keyLen), Salt: [4]byte{4, 5, 6, 7}}}
	binary.BigEndian.PutUint32(a.config.Key, seed)
	block, err := aes.NewCipher(a.config.Key)
	if err == nil {
		a.aead, err = cipher.NewGCM(block)
	}
	if err != nil {
		panic(err)
	}
	return a
}

func (a association) aad(number uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, a.config.SPI), number)
}

// espPeer is the other end of an encrypted network, by the RFCs and Go's cipher: its container's interface is a tap in the peer's namespace.
type espPeer struct {
	socket   *net.UDPConn
	tap      *os.File
	out      atomic.Pointer[association] // by which it sends
	in       sync.Map                    // and receives: by the SPI
	host     netip.AddrPort
	vni      uint32
	received atomic.Int64 // packets that opened
	refused  atomic.Int64 // and others
}

func newESPPeer(t *testing.T, vtep netip.AddrPort, vni uint32, mtu int) *espPeer {
	t.Helper()
	p := &espPeer{host: netip.AddrPortFrom(hostWire, 4789), vni: vni}
	if vtep.Addr().Is6() {
		p.host = netip.MustParseAddrPort("[fd09:2::1]:4789")
	}
	inNamespace(t, peerNS, func() (err error) {
		if p.socket, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(vtep)); err != nil {
			return err
		}
		p.socket.SetReadBuffer(8 << 20)
		p.tap, err = openTap("esp0")
		return err
	})
	run(t, peerNS, fmt.Sprintf("ip link set esp0 address %s mtu %d up && ip addr add %s/24 dev esp0 && ip addr add %s/64 dev esp0 nodad", peerMAC, mtu, peerIP4, peerIP6))
	go p.send()
	go p.receive()
	t.Cleanup(func() { p.socket.Close(); p.tap.Close() })
	return p
}

// openTap makes a tap that takes frames as they are on a wire. It goes when it is closed.
func openTap(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (p *espPeer) send() {
	frame := make([]byte, 65536)
	for number := uint64(1); ; number++ {
		n, err := p.tap.Read(frame)
		if err != nil {
			return
		}
		sa := p.out.Load()
		if sa == nil {
			continue
		}
		text := binary.BigEndian.AppendUint16([]byte{0x12, 0xb5, 0x12, 0xb5}, uint16(16+n))
		text = append(text, 0, 0, 8, 0, 0, 0)
		text = append(binary.BigEndian.AppendUint32(text, p.vni<<8), frame[:n]...)
		pad := byte((2 - len(text)) & 3)
		for i := range pad {
			text = append(text, i+1)
		}
		packet := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, sa.config.SPI), uint32(number))
		packet = binary.BigEndian.AppendUint64(packet, number)
		nonce := append(sa.config.Salt[:len(sa.config.Salt):len(sa.config.Salt)], packet[8:]...)
		p.socket.WriteToUDPAddrPort(sa.aead.Seal(packet, nonce, append(text, pad, 17), sa.aad(number)), p.host)
	}
}

func (p *espPeer) receive() {
	packet := make([]byte, 65536)
	for {
		n, err := p.socket.Read(packet)
		if err != nil {
			return
		}
		known, found := p.in.Load(binary.BigEndian.Uint32(packet))
		if !found || n < 32 {
			p.refused.Add(1)
			continue
		}
		sa := known.(association)
		nonce := append(sa.config.Salt[:len(sa.config.Salt):len(sa.config.Salt)], packet[8:16]...)
		text, err := sa.aead.Open(nil, nonce, packet[16:n], sa.aad(uint64(binary.BigEndian.Uint32(packet[4:]))))
		if err != nil || text[len(text)-1] != 17 {
			p.refused.Add(1)
			continue
		}
		p.received.Add(1)
		p.tap.Write(text[16 : len(text)-2-int(text[len(text)-2])])
	}
}
