//go:build dptest

package dp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

const espVNI = 4212

// association is one of a VTEP's two, as the other end has it.
type association struct {
	spi  uint32
	key  []byte
	salt [4]byte
}

func (a association) gcm() cipher.AEAD {
	block, err := aes.NewCipher(a.key)
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return gcm
}

func (a association) aad(number uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, a.spi), number)
}

// seal makes an ESP packet by the RFCs, with crypto/cipher: RFC 4303 section 2, RFC 4106 sections 3 and 4.
func (a association) seal(number uint64, text []byte) []byte {
	packet := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, a.spi), uint32(number))
	iv := binary.BigEndian.AppendUint64(nil, number^0x5555)
	packet = append(packet, iv...)
	return a.gcm().Seal(packet, append(a.salt[:], iv...), text, a.aad(number))
}

// espText is what is encrypted with a frame.
func espText(vni uint32, frame []byte) []byte {
	text := []byte{vxlanPort >> 8, vxlanPort & 0xff, vxlanPort >> 8, vxlanPort & 0xff}
	text = binary.BigEndian.AppendUint16(text, uint16(16+len(frame)))
	text = append(text, 0, 0, 8, 0, 0, 0)
	text = append(binary.BigEndian.AppendUint32(text, vni<<8), frame...)
	pad := byte((2 - len(text)) & 3)
	for i := range pad {
		text = append(text, i+1)
	}
	return append(text, pad, 17)
}

// open gives the frame in a packet of ours, and its number.
func (a association) open(t testing.TB, packet []byte) (frame []byte, number uint64) {
	t.Helper()
	number = uint64(binary.BigEndian.Uint32(packet[4:]))
	if binary.BigEndian.Uint32(packet) != a.spi {
		t.Fatalf("SPI %x, want %x", packet[:4], a.spi)
	}
	text, err := a.gcm().Open(nil, append(a.salt[:], packet[8:16]...), packet[16:], a.aad(number))
	if err != nil {
		t.Fatalf("%v: %x", err, packet)
	}
	frame = text[16 : len(text)-2-int(text[len(text)-2])]
	if !bytes.Equal(text, espText(espVNI, frame)) {
		t.Fatalf("encrypted is %x, want %x", text, espText(espVNI, frame))
	}
	return frame, number
}

// secured is an encrypted network on the same devices, with the same VTEP.
type secured struct {
	devices
	espPort, espContainer uint32
	ours, theirs          association // by which we send, and they
	turn                  int
}

var onSecured = sync.OnceValue(func() (s secured) {
	try := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	s.devices = onDevices()
	var err error
	s.espContainer, err = OpenDevice("net_null2,no-rx=1")
	try(err)
	try(AddNet(espVNI, true))
	s.espPort, err = AddPort(Port{VNI: espVNI, MAC: [6]byte(srcMAC), Addrs: []netip.Addr{src4, src6}, Device: &s.espContainer})
	try(err)
	try(SetMACPort(espVNI, [6]byte(srcMAC), s.espPort))
	try(SetMACVTEP(espVNI, [6]byte(dstMAC), s.vtep))
	try(SetNeighbour(espVNI, dst4, [6]byte(dstMAC), false))
	try(SetNeighbour(espVNI, dst6, [6]byte(dstMAC), false))
	try(SetFlood(espVNI, []uint32{s.espPort}, []uint32{s.vtep}))
	return s
})

var lastSPI = uint32(1000)

// agree has the VTEP's SAs replaced by new ones, with keys of so many bytes.
func (s *secured) agree(t testing.TB, keyLen int) {
	t.Helper()
	key := func(seed byte) association {
		lastSPI++
		return association{lastSPI, bytes.Repeat([]byte{seed ^ byte(lastSPI)}, keyLen), [4]byte{seed, 2, 3, 4}}
	}
	s.ours, s.theirs = key(1), key(2)
	var ids []uint32
	for _, a := range []association{s.ours, s.theirs} {
		id, _, err := AddSA(a.spi, a.key, a.salt)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := SetSAs(s.vtep, &ids[0], ids[1:]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		SetSAs(s.vtep, nil, nil)
		for _, id := range ids {
			DelSA(id)
		}
	})
}

// sent is the UDP payload that leaves for a frame; nil: none does.
func (s *secured) sent(t testing.TB, frame []byte) []byte {
	t.Helper()
	s.turn++
	tail := s.turn % 2 * 21
	left := fromPortWithTail(s.espPort, s.underlay, frame, tail)
	l := left.frame
	if len(l) == 0 {
		return nil
	}
	if want := s.outwards(frame, ecnOf(frame)); binary.BigEndian.Uint16(l[34:]) != want.srcPort || l[15] != want.tos {
		t.Fatalf("source port %d and TOS %d outside, want %d and %d", binary.BigEndian.Uint16(l[34:]), l[15], want.srcPort, want.tos)
	}
	if left.zeroCopy != (tail > 0) {
		t.Fatalf("with room for %d bytes behind the frame its buffer is used: %v", tail, left.zeroCopy)
	}
	if total := int(binary.BigEndian.Uint16(l[16:])); total != len(l)-14 || int(binary.BigEndian.Uint16(l[38:])) != total-20 {
		t.Fatalf("outer lengths of %x", l)
	}
	return l[42:]
}

// ecnOf is the congestion mark of a frame.
func ecnOf(frame []byte) byte {
	if frame[12] == 8 {
		return frame[15] & 3
	}
	return frame[15] >> 4 & 3
}

// received is what a UDP payload from the VTEP brings to the container; nil: nothing.
func (s *secured) received(t testing.TB, payload []byte) []byte {
	t.Helper()
	packet := s.inwards().packet(t, nil)[:42]
	packet = append(packet, payload...)
	binary.BigEndian.PutUint16(packet[16:], uint16(28+len(payload)))
	binary.BigEndian.PutUint16(packet[38:], uint16(8+len(payload)))
	sumIP(packet, 20)
	if frame := fromUnderlay(s.underlay, s.espContainer, packet).frame; len(frame) > 0 {
		return frame
	}
	return nil
}

// What leaves is what the RFCs say, and opens with another's cipher; what that seals arrives.
func TestESP(t *testing.T) {
	s := onSecured()
	for _, keyLen := range []int{16, 32} {
		s.agree(t, keyLen)
		number := uint64(0)
		for name, frame := range examples(t) {
			if frame[12] == 8 && frame[13] == 6 || frame[20] == 58 {
				continue // answered here
			}
			packet := s.sent(t, frame)
			number++
			if got, n := s.ours.open(t, packet); !bytes.Equal(got, frame) || n != number {
				t.Errorf("%s: number %d, want %d; got %x", name, n, number, got)
			}
			if got := s.received(t, s.theirs.seal(number, espText(espVNI, back(frame)))); !bytes.Equal(got, back(frame)) {
				t.Errorf("%s does not arrive: %x", name, got)
			}
		}
		for size := range 1408 - 28 + 1 {
			frame := flow{udp: true}.frame(t, 1, 1, 0, fill(size))
			frame[15] = byte(size) & 3
			sumInner(frame)
			packet := s.sent(t, frame)
			number++
			if got, _ := s.ours.open(t, packet); !bytes.Equal(got, frame) || len(packet)%4 != 0 || len(packet) > len(frame)+53 {
				t.Fatalf("%d bytes of payload: %d bytes for %d", size, len(packet), len(frame))
			}
			if got := s.received(t, s.theirs.seal(number, espText(espVNI, back(frame)))); !bytes.Equal(got, back(frame)) {
				t.Fatalf("%d bytes of payload do not arrive", size)
			}
		}
	}
}

// The upper half of the number is not sent, and counts.
func TestESPExtendedNumbers(t *testing.T) {
	s := onSecured()
	s.agree(t, 16)
	frame := back(examples(t)["UDP over IPv4"])
	for _, number := range []uint64{1, 1 << 31, 1<<32 - 1, 1<<32 + 1, 1 << 32, 1<<32 - 2, 3 << 31, 2<<32 + 5} {
		if got := s.received(t, s.theirs.seal(number, espText(espVNI, frame))); !bytes.Equal(got, frame) {
			t.Errorf("number %#x does not arrive", number)
		}
	}
}

// Whatever does not open is dropped under its own name.
func TestESPDrops(t *testing.T) {
	s := onSecured()
	s.agree(t, 16)
	frame := back(examples(t)["UDP over IPv4"])
	text := espText(espVNI, frame)
	edited := func(edit func(b []byte)) []byte {
		b := bytes.Clone(text)
		edit(b)
		return b
	}
	good := s.theirs.seal(100_000, text)
	if got := s.received(t, good); !bytes.Equal(got, frame) {
		t.Fatal("what is right does not arrive")
	}
	other := s.theirs
	other.spi = 999
	end := len(text)
	for _, c := range []struct {
		what, drop string
		packet     []byte
	}{
		{"again", "esp_replay", good},
		{"as old as the window is long", "esp_replay", s.theirs.seal(100_000-windowLen, text)},
		{"another SPI", "esp_spi", other.seal(100_001, text)},
		{"a SPI of ours", "esp_spi", s.ours.seal(100_001, text)},
		{"reserved SPI", "vxlan_flags", association{255, s.theirs.key, s.theirs.salt}.seal(100_001, text)},
		{"its ICV alone", "esp_malformed", good[:16+16]},
		{"short", "esp_malformed", good[:4]},
		{"not aligned", "esp_malformed", good[:len(good)-1]},
		{"not for VXLAN's port", "esp_malformed", s.theirs.seal(100_002, edited(func(b []byte) { b[3]++ }))},
		{"not UDP", "esp_malformed", s.theirs.seal(100_003, edited(func(b []byte) { b[end-1] = 59 }))},
		{"padding longer than all", "esp_malformed", s.theirs.seal(100_004, edited(func(b []byte) { b[end-2] = 255 }))},
		{"inner length behind the end", "esp_malformed", s.theirs.seal(100_005, edited(func(b []byte) { b[4] = 0xff }))},
		{"inner length in its header", "esp_malformed", s.theirs.seal(100_006, edited(func(b []byte) { b[4], b[5] = 0, 7 }))},
		{"nothing in it", "esp_malformed", s.theirs.seal(100_007, []byte{0, 1, 1, 17})},
		{"no frame in it", "runt", s.theirs.seal(100_008, espText(espVNI, nil))},
		{"no I flag", "vxlan_flags", s.theirs.seal(100_009, edited(func(b []byte) { b[8] = 0 }))},
		{"encrypted for a plain network", "esp_unwanted", s.theirs.seal(100_010, espText(ethVNI, frame))},
		{"plain for an encrypted network", "plain", text[8 : 16+len(frame)]},
		{"another's source", "spoofed_mac", s.theirs.seal(100_011, espText(espVNI, edited(func(b []byte) { copy(b[22:], srcMAC) })[16:16+len(frame)]))},
	} {
		before := harnessDrop(c.drop)
		if got := s.received(t, c.packet); got != nil {
			t.Errorf("%s arrives: %x", c.what, got)
		}
		if now := harnessDrop(c.drop); now != before+1 {
			t.Errorf("%s counts %d under %s", c.what, now-before, c.drop)
		}
	}
	toAll := back(examples(t)["UDP over IPv4"])
	copy(toAll, "\xff\xff\xff\xff\xff\xff")
	before := harnessDrop("plain")
	if got := s.received(t, espText(espVNI, toAll)[8:16+len(toAll)]); got != nil || harnessDrop("plain") != before+1 {
		t.Error("a plain packet to all of an encrypted network arrives")
	}
}

// Without a key nothing leaves, and a key wears out.
func TestESPKeys(t *testing.T) {
	s := onSecured()
	frame := examples(t)["UDP over IPv4"]
	before := harnessDrop("esp_no_key")
	if packet := s.sent(t, frame); packet != nil || harnessDrop("esp_no_key") != before+1 {
		t.Errorf("without a key leaves %x", packet)
	}
	s.agree(t, 16)
	saSent(s.vtep, SAPackets-2)
	before = harnessDrop("esp_worn")
	if packet := s.sent(t, frame); packet == nil || binary.BigEndian.Uint32(packet[4:]) != (SAPackets-1)&(1<<32-1) {
		t.Errorf("the last packet under a key is %x", packet)
	}
	for range 3 {
		if packet := s.sent(t, frame); packet != nil {
			t.Errorf("with a worn key leaves %x", packet)
		}
	}
	if got := harnessDrop("esp_worn") - before; got != 3 {
		t.Errorf("%d packets are counted as too many for the key, want 3", got)
	}
}

// An IV is of one packet alone, and of its time: a machine that is set back in time with its memory goes on otherwise.
func TestESPNonce(t *testing.T) {
	s := onSecured()
	s.agree(t, 16)
	frame := examples(t)["UDP over IPv4"]
	seen := map[uint64]bool{}
	for _, sent := range []uint64{0, 1<<32 - 50, 1<<34 - 200} {
		saSent(s.vtep, sent)
		for i := range uint64(100) {
			before := time.Now().Unix() - 1
			iv := binary.BigEndian.Uint64(s.sent(t, frame)[8:])
			after := time.Now().Unix()
			if seen[iv] || iv&(SAPackets-1) != sent+i+1 {
				t.Fatalf("IV %#x of packet %d", iv, sent+i+1)
			}
			if at := int64(iv >> 34); at < before&(1<<30-1) || at > after&(1<<30-1) {
				t.Fatalf("IV %#x is of %d, and not of %d to %d", iv, at, before, after)
			}
			seen[iv] = true
		}
	}
}

// Of a great many packets that are not as they were sent, none arrives, each is counted, and those that are right still do.
func TestESPForgeries(t *testing.T) {
	s := onSecured()
	s.agree(t, 32)
	random := rand.New(rand.NewPCG(3, 4))
	var kept [][]byte
	number := uint64(1 << 20)
	for i := range forgeries {
		if i%100 == 0 { // the real ones, some of them not in order
			number += 1 + random.Uint64N(1000)
			frame := back(flow{udp: true}.frame(t, 1, 1, 0, fill(random.IntN(1300))))
			packet := s.theirs.seal(number, espText(espVNI, frame))
			if got := s.received(t, packet); !bytes.Equal(got, frame) {
				t.Fatalf("packet %d does not arrive after %d forgeries: %x", number, i, got)
			}
			kept = append(kept[max(0, len(kept)-50):], packet)
		}
		forged := bytes.Clone(kept[random.IntN(len(kept))])
		what := "replayed"
		switch random.IntN(6) {
		case 0:
			what = "bit"
			at := random.IntN(len(forged) * 8)
			forged[at/8] ^= 1 << (at % 8)
		case 1:
			what = "truncated"
			forged = forged[:4+random.IntN(len(forged)-4)]
		case 2:
			what = "longer"
			forged = slices.Concat(forged, fill(4*(1+random.IntN(20))))
		case 3:
			what = "later"
			binary.BigEndian.PutUint32(forged[4:], uint32(number)+1+random.Uint32N(1<<20))
		case 4:
			what = "noise"
			for j := range forged[8:] {
				forged[8+j] = byte(random.Uint32())
			}
			binary.BigEndian.PutUint32(forged[4:], uint32(number)+1)
		}
		before := allDrops()
		if got := s.received(t, forged); got != nil {
			t.Fatalf("%s arrives after %d: %x", what, i, got)
		}
		after, counted := allDrops(), uint64(0)
		for j := range after {
			counted += after[j] - before[j]
		}
		if counted != 1 {
			t.Fatalf("%s counts %d", what, counted)
		}
	}
}

// A frame too long for the path leaves in fragments that are encrypted as well, and its sender hears how long it may be.
func TestESPTooBig(t *testing.T) {
	s := onSecured()
	s.agree(t, 16)
	check(t, SetMTU(s.vtep, 1500))
	t.Cleanup(func() { check(t, SetMTU(s.vtep, 65535)) })
	fits, over := flow{udp: true}.frame(t, 1, 1, 0, fill(1408-28)), flow{udp: true}.frame(t, 1, 1, 0, fill(1408-28+1))
	if packet := s.sent(t, fits); len(packet) != 1472 {
		t.Errorf("the longest frame leaves in %d bytes, want 1472", len(packet))
	}
	over[20] = 0 // no DF
	sumInner(over)
	l := fromPort(s.espPort, s.underlay, over).frame
	if len(l) == 0 {
		t.Fatal("no fragment leaves")
	}
	if frame, _ := s.ours.open(t, l[42:]); len(frame) > len(fits) || binary.BigEndian.Uint16(frame[20:])&0x1fff == 0 {
		t.Errorf("the last fragment is %x", frame)
	}
	over[20] = 0x40
	sumInner(over)
	before := harnessDrop("too_big")
	if l := fromPort(s.espPort, s.espContainer, over).frame; len(l) < 42 || binary.BigEndian.Uint16(l[40:]) != 1408 || harnessDrop("too_big") != before+1 {
		t.Errorf("who sends too much hears %x", l)
	}
}

// sumInner makes the IPv4 checksum of a frame right again.
func sumInner(frame []byte) {
	frame[24], frame[25] = 0, 0
	sum := ^csumFold(frame[14:34], 0)
	frame[24], frame[25] = byte(sum), byte(sum>>8)
}

// A worker opens a burst in which some packets are plain, and some do not open.
func TestESPBurst(t *testing.T) {
	s := onSecured()
	s.agree(t, 16)
	random := rand.New(rand.NewPCG(5, 6))
	number := uint64(0)
	for range 200 {
		var packets, want [][]byte
		for i := range 1 + random.IntN(63) {
			number++
			frame := back(flow{udp: true}.frame(t, uint16(i), 1, 0, fill(random.IntN(200))))
			payload := s.theirs.seal(number, espText(espVNI, frame))
			switch random.IntN(4) {
			case 0:
				payload[len(payload)-1]++
			case 1:
				payload = espText(espVNI, frame)[8 : 16+len(frame)]
			default:
				want = append(want, frame)
			}
			packet := append(s.inwards().packet(t, nil)[:42], payload...)
			binary.BigEndian.PutUint16(packet[16:], uint16(28+len(payload)))
			binary.BigEndian.PutUint16(packet[38:], uint16(8+len(payload)))
			sumIP(packet, 20)
			packets = append(packets, packet)
		}
		if got := burstFromUnderlay(s.underlay, s.espContainer, packets); fmt.Sprintf("%x", got) != fmt.Sprintf("%x", want) {
			t.Fatalf("%d of %d packets arrive, want %d", len(got), len(packets), len(want))
		}
	}
}

// One worker between devices: everything but what the devices' drivers do.
func BenchmarkESP(b *testing.B) {
	s := onSecured()
	for _, keyLen := range []int{16, 32} {
		for _, size := range []int{64, 1400} {
			b.Run(fmt.Sprintf("AES-%d/%d", keyLen*8, size), func(b *testing.B) {
				s.agree(b, keyLen)
				sender, _, err := AddSA(s.theirs.spi, s.theirs.key, s.theirs.salt)
				if err != nil {
					b.Fatal(err)
				}
				defer DelSA(sender)
				drops := harnessDrops()
				frame := flow{udp: true}.frame(b, 1, 1, 0, fill(size-42))
				seal, open, packets := espCycles(s.espPort, s.vtep, s.underlay, sender, frame, b.N)
				if now := harnessDrops(); now != drops {
					b.Fatalf("%d packets were dropped: %v", now-drops, allDrops())
				}
				gbps := func(cycles uint64) float64 {
					return float64(packets) * float64(size) * 8 / (float64(cycles) / float64(CyclesHz())) / 1e9
				}
				b.ReportMetric(gbps(seal), "encap_Gb/s")
				b.ReportMetric(gbps(open), "decap_Gb/s")
			})
		}
	}
}

// A checksum that a container has left to a card stays out for hosts that take that, and is there for others. Who receives such a packet computes it.
func TestESPPartialChecksums(t *testing.T) {
	s := onSecured()
	s.agree(t, 16)
	t.Cleanup(func() { check(t, SetPartial(s.vtep, false)) })
	number := uint64(0)
	for name, f := range kinds {
		for _, length := range []int{100, 4000} {
			super, vnet := f.super(f.frame(t, 1, 1, 16, fill(length)), 1000)
			if length < 1000 {
				vnet.Type, vnet.GSOSize = gsoNone, 0
			}
			sent := func(takes bool) (frames [][]byte) {
				check(t, SetPartial(s.vtep, takes))
				for _, g := range toCard(s.espPort, s.underlay, slices.Concat(vnet.bytes(), super)) {
					frame, _ := s.ours.open(t, g.bytes[42:])
					frames = append(frames, frame)
				}
				return frames
			}
			whole, partial := sent(false), sent(true)
			if len(whole) != (length+999)/1000 || len(partial) != len(whole) {
				t.Fatalf("%s: %d and %d packets of %d bytes", name, len(whole), len(partial), length)
			}
			for i := range whole {
				decode(t, whole[i])
				at := int(vnet.CsumStart) + int(vnet.CsumOffset)
				if bytes.Equal(whole[i], partial[i]) || !bytes.Equal(whole[i][:at], partial[i][:at]) || !bytes.Equal(whole[i][at+2:], partial[i][at+2:]) {
					t.Fatalf("%s: packet %d is\n%x, and without a checksum\n%x", name, i, whole[i], partial[i])
				}
				number++
				if got := s.received(t, s.theirs.seal(number, espText(espVNI, back(partial[i])))); !bytes.Equal(got, back(whole[i])) {
					t.Fatalf("%s: packet %d without a checksum arrives as\n%x, want\n%x", name, i, got, back(whole[i]))
				}
			}
		}
	}
}
