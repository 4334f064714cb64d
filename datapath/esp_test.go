package datapath_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/overlane/overlane/datapath"
)

const (
	espVNI  = 4203
	espMTU4 = 1408 // what ESP leaves of 1500 bytes
	espMTU6 = 1388
)

// encrypted makes an encrypted network with the peer on it.
func encrypted(t *testing.T, vtep netip.AddrPort, mtu, bits int) (*espPeer, *keys) {
	t.Helper()
	p := newESPPeer(t, vtep, espVNI, mtu)
	encryptedNetwork(t, vtep)
	k := p.agree(t, vtep, bits)
	container(t, containerNS, "ovtest0", hostMAC, mtu, espVNI, hostIP4+"/24", hostIP6+"/64")
	return p, k
}

// encryptedNetwork makes one with the container that the peer is on.
func encryptedNetwork(t *testing.T, vtep netip.AddrPort) {
	t.Helper()
	must(t, plane.AddNetwork(espVNI, true))
	t.Cleanup(func() { must(t, plane.DelNetwork(espVNI)) })
	must(t, plane.AddVTEP(espVNI, vtep))
	must(t, plane.SetMAC(espVNI, parseMAC(peerMAC), vtep))
	must(t, plane.SetNeighbour(espVNI, netip.MustParseAddr(peerIP4), parseMAC(peerMAC), false))
	must(t, plane.SetNeighbour(espVNI, netip.MustParseAddr(peerIP6), parseMAC(peerMAC), false))
}

// keys are what the host has agreed on with the peer, as it goes on from one to the next.
type keys struct {
	peer *espPeer
	vtep netip.AddrPort
	bits int
	seed uint32
	out  *datapath.SA
	in   []*datapath.SA // the newest first
}

// agree gives both ends their first keys.
func (p *espPeer) agree(t *testing.T, vtep netip.AddrPort, bits int) *keys {
	t.Helper()
	k := &keys{peer: p, vtep: vtep, bits: bits}
	k.next(t)
	t.Cleanup(func() {
		must(t, plane.SetSAs(vtep, nil, nil))
		for _, sa := range append(k.in, k.out) {
			plane.FreeSA(sa)
		}
	})
	return k
}

// next has both ends receive by new keys, then send by them. The host receives by the old ones too.
func (k *keys) next(t *testing.T) {
	t.Helper()
	ours, theirs := newAssociation(k.seed, k.bits/8), newAssociation(k.seed+1, k.bits/8)
	k.seed += 2
	in, err := plane.NewSA(theirs.config)
	must(t, err)
	out, err := plane.NewSA(ours.config)
	must(t, err)
	k.in = append([]*datapath.SA{in}, k.in...)
	must(t, plane.SetSAs(k.vtep, k.out, k.in[:min(len(k.in), datapath.MaxSAs)]))
	k.peer.in.Store(ours.config.SPI, ours)
	k.peer.out.Store(&theirs)
	must(t, plane.SetSAs(k.vtep, out, k.in[:min(len(k.in), datapath.MaxSAs)]))
	if k.out != nil {
		plane.FreeSA(k.out)
	}
	k.out = out
}

// An encrypted network carries what others carry, and nobody on the wire reads a byte of it.
func TestESP(t *testing.T) {
	for _, c := range []struct {
		name string
		vtep netip.AddrPort
		mtu  int
		bits int
	}{{"over IPv4, AES-128", peerWire, espMTU4, 128}, {"over IPv6, AES-256", peerWire6, espMTU6, 256}} {
		t.Run(c.name, func(t *testing.T) {
			before := plane.Stats().Drops
			p, _ := encrypted(t, c.vtep, c.mtu, c.bits)
			// Another VTEP of a plain network at the same address, with another port.
			must(t, plane.AddNetwork(vni, false))
			must(t, plane.AddVTEP(vni, netip.AddrPortFrom(c.vtep.Addr(), 4790)))
			t.Cleanup(func() { must(t, plane.DelNetwork(vni)) })
			file := filepath.Join(t.TempDir(), "wire.pcap")
			capture := start(t, peerNS, "tcpdump", "-i", "wire", "-w", file, "-B", "65536", "-Z", "root")
			waitOutput(t, capture, "listening on")
			for _, pair := range pairs {
				t.Run("ping "+pair.name, func(t *testing.T) {
					for _, size := range []int{0, 1, 2, 3, c.mtu - 48, c.mtu, 4000} {
						run(t, pair.from, fmt.Sprintf("ping -q -c 2 -i 0.01 -W 2 -s %d %s", size, pair.addr))
					}
				})
				t.Run("known text "+pair.name, func(t *testing.T) { copyText(t, pair.from, pair.to, pair.addr) })
				t.Run("UDP "+pair.name, func(t *testing.T) { echoUDP(t, pair.from, pair.to, pair.addr, 1, 100, 1300, 9000) })
			}
			capture.Process.Signal(syscall.SIGINT)
			capture.Wait()
			captured, err := os.ReadFile(file)
			must(t, err)
			if len(captured) < len(pairs)*textBytes {
				t.Errorf("%d bytes were captured: not what was sent", len(captured))
			}
			for _, part := range [][]byte{[]byte(knownText), parseMACBytes(hostMAC), parseMACBytes(peerMAC)} {
				if at := bytes.Index(captured, part); at >= 0 {
					t.Errorf("%q is on the wire, at %d of the capture", part, at)
				}
			}
			if p.refused.Load() > 0 {
				t.Errorf("the peer could not open %d of %d packets", p.refused.Load(), p.received.Load())
			}
			var counted datapath.Traffic // of both that have the address: what comes tells no more
			for _, path := range plane.Stats().Paths {
				if path.VTEP.Addr() == c.vtep.Addr() {
					counted = counted.Plus(path.Traffic)
				}
			}
			if counted.RxBytes < 2*textBytes || counted.TxBytes < 2*textBytes || counted.TxPackets < uint64(p.received.Load()) {
				t.Errorf("the VTEP's traffic is counted as %+v, after %d packets to it", counted, p.received.Load())
			}
			noESPDrops(t, before)
		})
	}
}

// noESPDrops asks that no packet was dropped because of how it was encrypted, beside those before.
func noESPDrops(t *testing.T, before map[string]uint64) {
	t.Helper()
	for name, count := range plane.Stats().Drops {
		if count > before[name] && (name == "plain" || strings.HasPrefix(name, "esp_")) {
			t.Errorf("%d packets were dropped as %s", count-before[name], name)
		}
	}
}

const (
	knownText = "nobody on the wire may read this line"
	textBytes = 10 << 20
)

func parseMACBytes(text string) []byte { m := parseMAC(text); return m[:] }

// copyText sends a text that is known over TCP.
func copyText(t *testing.T, from, to, addr string) {
	t.Helper()
	text := bytes.Repeat([]byte(knownText), textBytes/len(knownText)+1)
	var listener net.Listener
	inNamespace(t, to, func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(addr, "7000"))
		return err
	})
	defer listener.Close()
	got := make(chan []byte, 1)
	go func() {
		var b bytes.Buffer
		if conn, err := listener.Accept(); err == nil {
			b.ReadFrom(conn)
			conn.Close()
		}
		got <- b.Bytes()
	}()
	var conn net.Conn
	inNamespace(t, from, func() (err error) {
		conn, err = net.DialTimeout("tcp", net.JoinHostPort(addr, "7000"), 5*time.Second)
		return err
	})
	must(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err := conn.Write(text)
	must(t, err)
	conn.Close()
	if !bytes.Equal(<-got, text) {
		t.Errorf("%d bytes to %s arrived changed", len(text), addr)
	}
}

// Keys change under a ping, and no packet of it is lost.
func TestESPRekey(t *testing.T) {
	p, k := encrypted(t, peerWire, espMTU4, 128)
	ping := start(t, containerNS, "ping", "-q", "-i", "0.002", "-c", "1000", "-W", "2", peerIP4)
	done := make(chan error, 1)
	go func() { done <- ping.Wait() }()
	pace := time.NewTicker(100 * time.Millisecond) // an old key serves for sixteen of these
	defer pace.Stop()
	for {
		select {
		case err := <-done:
			if err != nil || !strings.Contains(ping.output.String(), " 1000 received") {
				t.Errorf("%v: %s", err, ping.output)
			}
			if p.refused.Load() > 0 || k.seed < 10 {
				t.Errorf("after %d keys the peer could not open %d packets", k.seed/2, p.refused.Load())
			}
			return
		case <-pace.C:
			k.next(t)
		}
	}
}
