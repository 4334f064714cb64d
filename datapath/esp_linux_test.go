//go:build soak

package datapath_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"

	"github.com/overlane/overlane/datapath"
)

const espBulkBytes = 4 << 20 // through each TCP connection: a capture holds them

// A kernel with IPsec between its VXLAN device and the wire makes and takes the same packets, and tshark reads them with the keys.
func TestESPWithLinux(t *testing.T) {
	how := map[bool]string{true: "ok", false: "failed"}
	result, read := "RESULT esp-interop", true
	for _, c := range []struct {
		name, host, vtep string
		mtu, bits        int
	}{
		{"ipv4", "10.9.2.1", "10.9.2.3/24", espMTU4, 128},
		{"ipv6", "fd09:2::1", "fd09:2::3/64", espMTU6, 256},
	} {
		ok := t.Run(c.name, func(t *testing.T) {
			before := plane.Stats().Drops
			p := newLinuxESP(t, netip.MustParseAddr(c.host), netip.MustParsePrefix(c.vtep), c.mtu, c.bits)
			file := filepath.Join(t.TempDir(), "wire.pcap")
			capture := start(t, peerNS, "tcpdump", "-i", "wire", "-w", file, "-B", "65536", "-Z", "root")
			waitOutput(t, capture, "listening on")
			p.traffic(t, c.mtu)
			capture.Process.Signal(syscall.SIGINT)
			capture.Wait()
			read = t.Run("on the wire", func(t *testing.T) { p.checkWire(t, file) }) && read
			t.Run("numbers beyond 32 bits", p.beyond32Bits)
			noESPDrops(t, before)
		})
		result += " " + c.name + "=" + how[ok]
	}
	fmt.Println(result + " tshark=" + how[read])
}

// linuxESP is a kernel on the encrypted network, and what the host shares with it.
type linuxESP struct {
	*linuxGuest
	host, vtep   netip.Addr
	bits         int
	ours, theirs association // by which the host sends, and it
	sas          []*datapath.SA
}

// newLinuxESP makes an encrypted network with one.
func newLinuxESP(t *testing.T, host netip.Addr, vtep netip.Prefix, mtu, bits int) *linuxESP {
	t.Helper()
	withoutOffloads(t)
	p := &linuxESP{linuxGuest: bootLinux(t, peerNS, "wire"), host: host, vtep: vtep.Addr(), bits: bits}
	p.linuxUnderlay(t, vtep)
	encryptedNetwork(t, p.at())
	t.Cleanup(func() {
		must(t, plane.SetSAs(p.at(), nil, nil))
		for _, sa := range p.sas {
			plane.FreeSA(sa)
		}
	})
	p.agree(t, 0, "")
	for _, command := range []string{
		fmt.Sprintf("ip link add vx0 address %s type vxlan id %d dstport 4789 local %s remote %s udpcsum udp6zerocsumrx", peerMAC, espVNI, p.vtep, host),
		fmt.Sprintf("ip link set vx0 mtu %d up && ip addr add %s/24 dev vx0 && ip addr add %s/64 dev vx0 nodad", mtu, peerIP4, peerIP6),
	} {
		p.run(t, command)
	}
	container(t, containerNS, "ovtest0", hostMAC, mtu, espVNI, hostIP4+"/24", hostIP6+"/64")
	return p
}

func (p *linuxESP) at() netip.AddrPort { return netip.AddrPortFrom(p.vtep, 4789) }

// espSockets has the kernel take ESP on port 4500 (UDP_ENCAP, UDP_ENCAP_ESPINUDP), over IPv6 also without a checksum (UDP_NO_CHECK6_RX).
const espSockets = `perl -MSocket -e '$SIG{HUP} = "IGNORE";
	for ([AF_INET, pack_sockaddr_in(4500, INADDR_ANY)], [AF_INET6, pack_sockaddr_in6(4500, Socket::IN6ADDR_ANY)]) {
		socket(my $s, $_->[0], SOCK_DGRAM, 0) or die $!;
		$_->[0] == AF_INET or setsockopt($s, 41, 26, 1) && setsockopt($s, 17, 102, 1) or die $!;
		bind($s, $_->[1]) && setsockopt($s, 17, 100, 2) or die $!;
		push @all, $s;
	}
	fork and exit; open STDOUT, ">/dev/null"; open STDERR, ">/dev/null"; sleep'`

// linuxUnderlay gives the kernel its address, and ESP a socket. VXLAN's port is the VXLAN device's, so what the wire brings there goes
// to another one first.
func (p *linuxESP) linuxUnderlay(t *testing.T, vtep netip.Prefix) {
	t.Helper()
	policy := func(dir string, from, to netip.Addr) string {
		return fmt.Sprintf("ip xfrm policy add dir %s src %s dst %s proto udp dport 4789 tmpl src %s dst %s proto esp mode transport", dir, from, to, from, to)
	}
	toSockets := "tc filter add dev vec0 ingress protocol %s prio %d flower ip_proto udp dst_port 4789 action pedit ex munge udp dport set 4500 pipe csum udp"
	for _, command := range []string{
		"ip link set vec0 up && ip addr add " + vtep.String() + " dev vec0 nodad",
		"tc qdisc add dev vec0 ingress", fmt.Sprintf(toSockets, "ip", 1), fmt.Sprintf(toSockets, "ipv6", 2),
		strings.Join(strings.Fields(espSockets), " "),
		policy("out", p.vtep, p.host), policy("in", p.host, p.vtep),
	} {
		p.run(t, command)
	}
}

// agree gives both ends new keys. The kernel's state for sending has more options.
func (p *linuxESP) agree(t *testing.T, seed uint32, sending string) {
	t.Helper()
	p.ours, p.theirs = newAssociation(seed, p.bits/8), newAssociation(seed+1, p.bits/8)
	in, err := plane.NewSA(p.theirs.config)
	must(t, err)
	out, err := plane.NewSA(p.ours.config)
	must(t, err)
	p.sas = append(p.sas, in, out)
	state := func(a association, from, to netip.Addr, options string) {
		t.Helper()
		p.run(t, fmt.Sprintf("ip xfrm state add src %s dst %s proto esp spi %#x mode transport replay-window 128 flag esn %s aead 'rfc4106(gcm(aes))' 0x%x%x 128 encap espinudp 4789 4789 %s",
			from, to, a.config.SPI, options, a.config.Key, a.config.Salt, netip.IPv6Unspecified()))
	}
	p.run(t, "ip xfrm state flush")
	state(p.ours, p.host, p.vtep, "")
	state(p.theirs, p.vtep, p.host, sending)
	must(t, plane.SetSAs(p.at(), out, []*datapath.SA{in}))
}

// traffic is pings of all sizes and TCP, both ways.
func (p *linuxESP) traffic(t *testing.T, mtu int) {
	for addr, from := range map[string]string{peerIP4: hostIP4, peerIP6: hostIP6} {
		headers := 28
		if strings.Contains(addr, ":") {
			headers = 48
		}
		t.Run("ping out to "+addr, func(t *testing.T) { pingEverySize(t, containerNS, addr, mtu) })
		t.Run("ping in to "+from, func(t *testing.T) {
			// Its answers were of every size.
			p.run(t, fmt.Sprintf("for size in $(seq %d 37 %d) %d; do ping -n -c 1 -W 5 -s $size %s >/run/ping && ! grep wrong /run/ping || { echo $size; cat /run/ping; exit 1; }; done",
				64-headers, mtu-headers, mtu-headers, from))
		})
		t.Run("TCP with "+from, func(t *testing.T) { p.copyBothWays(t, from) })
	}
}

// copyBothWays has the guest fetch bytes by TCP, and send others, and compares digests.
func (p *linuxESP) copyBothWays(t *testing.T, addr string) {
	var listener net.Listener
	inNamespace(t, containerNS, func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(addr, "7002"))
		return err
	})
	defer listener.Close()
	fetched := sha256.New()
	done := accept(listener, func(conn net.Conn) (int64, error) {
		return io.Copy(io.MultiWriter(conn, fetched), io.LimitReader(rand.New(rand.NewSource(1)), espBulkBytes))
	})
	out := p.run(t, fmt.Sprintf("timeout 60 sha256sum </dev/tcp/%s/7002", addr))
	must(t, <-done)
	if !strings.HasPrefix(out, fmt.Sprintf("%x ", fetched.Sum(nil))) {
		t.Errorf("%d bytes from %s arrived changed", espBulkBytes, addr)
	}
	stored := sha256.New()
	done = accept(listener, func(conn net.Conn) (int64, error) { return io.Copy(stored, conn) })
	out = p.run(t, fmt.Sprintf("head -c %d /dev/urandom >/run/bulk && sha256sum </run/bulk && timeout 60 cat /run/bulk >/dev/tcp/%s/7002", espBulkBytes, addr))
	must(t, <-done)
	if !strings.HasPrefix(out, fmt.Sprintf("%x ", stored.Sum(nil))) {
		t.Errorf("%d bytes to %s arrived changed", espBulkBytes, addr)
	}
}

// accept hands over the next connection, and closes it then.
func accept(listener net.Listener, use func(net.Conn) (int64, error)) <-chan error {
	done := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			conn.SetDeadline(time.Now().Add(time.Minute))
			_, err = use(conn)
			conn.Close()
		}
		done <- err
	}()
	return done
}

// beyond32Bits has the kernel's numbers go over 2^32.
func (p *linuxESP) beyond32Bits(t *testing.T) {
	p.agree(t, 2, "replay-oseq 0xffffff00")
	if out := run(t, containerNS, "ping -q -c 600 -i 0.002 -W 2 "+peerIP4); !strings.Contains(out, " 600 received") {
		t.Error(out)
	}
	if states := p.run(t, "ip xfrm state"); !strings.Contains(states, "oseq-hi 0x1") {
		t.Errorf("the kernel's numbers are as low as before: %s", states)
	}
}

// checkWire opens every packet of a capture, and then has tshark look into it.
func (p *linuxESP) checkWire(t *testing.T, file string) {
	readable, packets := filepath.Join(t.TempDir(), "4500.pcap"), 0
	in, err := os.Open(file)
	must(t, err)
	defer in.Close()
	out, err := os.Create(readable)
	must(t, err)
	defer out.Close()
	reader, err := pcapgo.NewReader(in)
	must(t, err)
	writer := pcapgo.NewWriter(out)
	must(t, writer.WriteFileHeader(65535, reader.LinkType()))
	for {
		frame, info, err := reader.ReadPacketData()
		if err == io.EOF {
			break
		}
		must(t, err)
		if udp := outerUDP(frame); udp != nil {
			p.checkPacket(t, udp)
			packets++
			toPort4500(udp)
		}
		must(t, writer.WritePacket(info, frame))
	}
	p.readByTshark(t, readable, packets)
}

// outerUDP is where the UDP header of a packet to VXLAN's port is; nil: it is another packet.
func outerUDP(frame []byte) []byte {
	at := map[uint16]int{0x0800: 34, 0x86dd: 54}[binary.BigEndian.Uint16(frame[12:])]
	if at == 0 || frame[map[int]int{34: 23, 54: 20}[at]] != 17 || binary.BigEndian.Uint16(frame[at+2:]) != 4789 {
		return nil
	}
	return frame[at:]
}

// checkPacket opens a packet with Go's cipher: tshark can't say whether an ICV is right where sequence numbers are extended.
func (p *linuxESP) checkPacket(t *testing.T, udp []byte) {
	t.Helper()
	esp := udp[8:binary.BigEndian.Uint16(udp[4:])]
	sa := p.theirs
	if binary.BigEndian.Uint32(esp) == p.ours.config.SPI {
		sa = p.ours
	}
	number := uint64(binary.BigEndian.Uint32(esp[4:]))
	if _, err := sa.aead.Open(nil, append(bytes.Clone(sa.config.Salt[:]), esp[8:16]...), esp[16:], sa.aad(number)); err != nil {
		t.Errorf("packet %d: %v: %x", number, err, esp)
	}
}

// toPort4500 makes the packet one that is ESP to tshark, by the port alone. The port inside has to be VXLAN's still.
func toPort4500(udp []byte) {
	binary.BigEndian.PutUint16(udp[2:], 4500)
	if sum := uint32(binary.BigEndian.Uint16(udp[6:])); sum != 0 { // RFC 1624 section 3
		sum = ^sum&0xffff + ^uint32(4789)&0xffff + 4500
		sum = sum>>16 + sum&0xffff
		binary.BigEndian.PutUint16(udp[6:], ^uint16(sum>>16+sum&0xffff))
	}
}

// readByTshark has tshark read the packets with the keys.
func (p *linuxESP) readByTshark(t *testing.T, file string, packets int) {
	family := map[bool]string{false: "IPv4", true: "IPv6"}[p.vtep.Is6()]
	options := []string{"-o", "esp.enable_encryption_decode:TRUE"}
	for _, a := range []association{p.ours, p.theirs} {
		options = append(options, "-o", fmt.Sprintf(`uat:esp_sa:"%s","*","*","%#x","AES-GCM with 16 octet ICV [RFC4106]","0x%x%x","NULL",""`,
			family, a.config.SPI, a.config.Key, a.config.Salt))
	}
	if n := len(tshark(t, file, fmt.Sprintf("esp && vxlan.vni == %d", espVNI), options...)); n != packets || n < 4*espBulkBytes/espMTU4 {
		t.Errorf("tshark reads %d of %d packets", n, packets)
	}
	bad := []string{
		badChecksum,
		`_ws.malformed`,
		`!vxlan && !arp && !icmpv6`,
	}
	if found := tshark(t, file, "("+strings.Join(bad, ") || (")+")", options...); len(found) > 0 {
		t.Errorf("%d packets match one of %q, the first: %s", len(found), bad, found[0])
	}
}
