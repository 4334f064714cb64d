//go:build dptest

package dp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"

	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// kernelGRO is the oracle: frames written to its tap come to its packet socket as this machine's kernel merges them.
type kernelGRO struct{ tap, socket int }

// The kernel holds a frame so long for others to follow; a test that is kept from writing for longer sees less merged.
const holdNanoseconds = 3_000_000

func newKernelGRO(t *testing.T) kernelGRO {
	t.Helper()
	space := fmt.Sprintf("ovgro%d", os.Getpid())
	command(t, "ip", "netns", "add", space)
	t.Cleanup(func() { command(t, "ip", "netns", "del", space) })
	command(t, "ip", "netns", "exec", space, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
	made := make(chan error)
	var k kernelGRO
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		made <- k.open(space)
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(k.tap); unix.Close(k.socket) })
	command(t, "ip", "netns", "exec", space, "ethtool", "-K", "gro0", "rx-udp-gro-forwarding", "on")
	command(t, "ip", "netns", "exec", space, "sh", "-c", fmt.Sprintf("echo %d >/sys/class/net/gro0/gro_flush_timeout", holdNanoseconds))
	command(t, "ip", "-n", space, "link", "set", "gro0", "up")
	return k
}

func (k *kernelGRO) open(space string) error {
	handle, err := netns.GetFromName(space)
	if err != nil {
		return err
	}
	defer handle.Close()
	if err := netns.Set(handle); err != nil {
		return err
	}
	if k.tap, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	request, err := unix.NewIfreq("gro0")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_NAPI)
	if err := unix.IoctlIfreq(k.tap, unix.TUNSETIFF, request); err != nil {
		return err
	}
	const everything = 0x0300 // ETH_P_ALL in network order
	if k.socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, everything); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(k.socket, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return err
	}
	return unix.SetsockoptTimeval(k.socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
}

func command(t *testing.T, words ...string) {
	t.Helper()
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", words, err, out)
	}
}

// merge returns what the frames become: each unit with the size at which it would be cut, 0 for a frame alone.
func (k kernelGRO) merge(t *rapid.T, frames [][]byte) (units []string) {
	for _, f := range frames {
		if _, err := unix.Write(k.tap, f); err != nil {
			t.Fatal(err)
		}
	}
	buffer := make([]byte, 1<<17)
	for segs := 0; segs < len(frames); segs++ {
		n, err := unix.Read(k.socket, buffer)
		for err == unix.EINTR { // Go's signal: a socket with a time limit is not read on
			n, err = unix.Read(k.socket, buffer)
		}
		if err != nil {
			t.Fatalf("%d of %d frames came back: %v", segs, len(frames), err)
		}
		frame, size := buffer[10:n], binary.NativeEndian.Uint16(buffer[4:])
		if size > 0 {
			_, h := parse(frame)
			segs += (h.End - h.Payload - 1) / int(size)
		}
		units = append(units, unitText(frame, size))
	}
	return slices.Sorted(slices.Values(units))
}

func unitText(frame []byte, size uint16) string { return fmt.Sprintf("%d: %x", size, frame) }

// ours is the same of dp_gro.
func ours(frames [][]byte) (units []string) {
	merged, _ := merge(true, toPort(frames...))
	for _, u := range merged {
		units = append(units, unitText(u.Data, u.VNet.GSOSize))
	}
	return slices.Sorted(slices.Values(units))
}

// changes are what can make a frame another than the next of its flow; the checksums are right afterwards unless told.
var changes = map[string]func(f *flow, t *rapid.T) func([]byte) []byte{
	"nothing": func(*flow, *rapid.T) func([]byte) []byte { return func(b []byte) []byte { return b } },
	"header": func(f *flow, t *rapid.T) func([]byte) []byte {
		// Lengths, versions and protocols stay; ids are drawn with the run; the urgent pointer Linux loses.
		at := rapid.SampledFrom(slices.DeleteFunc(count(0, f.hdrLen()), func(i int) bool {
			l4 := i - f.l4()
			return i >= 12 && i <= 14 || !f.v6 && (i >= 16 && i <= 19 || i == 23) || f.v6 && i >= 18 && i <= 20 ||
				f.udp && (l4 == 4 || l4 == 5) || !f.udp && (l4 == 12 || l4 == 13 || l4 >= 18 && l4 <= 19)
		})).Draw(t, "at")
		bit := byte(1) << rapid.IntRange(0, 7).Draw(t, "bit")
		return func(b []byte) []byte { b[at] ^= bit; return resum(b) }
	},
	"TCP flags": func(f *flow, t *rapid.T) func([]byte) []byte {
		bit := byte(1) << rapid.IntRange(0, 6).Draw(t, "bit")
		return func(b []byte) []byte {
			if !f.udp {
				b[f.l4()+13] ^= bit
			}
			return resum(b)
		}
	},
	"damage": func(f *flow, t *rapid.T) func([]byte) []byte {
		at := rapid.IntRange(f.l4(), f.hdrLen()).Draw(t, "at")
		if f.udp && (at == f.l4()+4 || at == f.l4()+5) || !f.udp && (at == f.l4()+12 || at == f.l4()+13) {
			at = f.hdrLen()
		}
		return func(b []byte) []byte { b[at] ^= 1; return b }
	},
}

func count(from, to int) (numbers []int) {
	for i := from; i < to; i++ {
		numbers = append(numbers, i)
	}
	return numbers
}

// drawRun is a few frames of a flow that follow each other, but for what was changed in one of them.
func drawRun(t *testing.T, rt *rapid.T) [][]byte {
	f := drawFlow().Draw(rt, "flow")
	size := rapid.IntRange(9, 1400).Draw(rt, "size")
	n := rapid.IntRange(2, 5).Draw(rt, "frames")
	id, seq := rapid.Uint16().Draw(rt, "id"), rapid.Uint32().Draw(rt, "seq")
	step := rapid.SampledFrom([]uint16{1, 1, 0, 2}).Draw(rt, "id step")
	if step == 0 {
		f.fragments = layers.IPv4DontFragment // without, Linux 6.18 merges what older ones do not
	}
	flags := 16 | rapid.SampledFrom([]uint8{0, 64}).Draw(rt, "flags")
	last := rapid.IntRange(1, size+1).Draw(rt, "last size")
	var frames [][]byte
	for i := range n {
		length := size
		if i == n-1 {
			length, flags = last, flags|rapid.SampledFrom([]uint8{0, 1, 8, 9}).Draw(rt, "last flags")
		}
		frames = append(frames, f.frame(t, id+uint16(i)*step, seq+uint32(i*size), flags, fill(length)))
	}
	// With one that stays apart among others Linux lets the later overtake it: here only the last is another, or the first of two.
	i := n - 1
	if n == 2 {
		i = rapid.IntRange(0, 1).Draw(rt, "changed frame")
	}
	change := rapid.SampledFrom([]string{"nothing", "header", "header", "header", "TCP flags", "damage"}).Draw(rt, "change")
	frames[i] = changes[change](&f, rt)(bytes.Clone(frames[i]))
	return frames
}

// What is merged is what this kernel would have merged, byte for byte; what stays apart stays apart there too.
func TestMergesAsTheKernelDoes(t *testing.T) {
	kernel := newKernelGRO(t)
	alike := func(rt *rapid.T) {
		frames := drawRun(t, rt)
		got := ours(frames)
		var want []string
		for range 20 { // a test kept from writing sees less merged than there is
			if want = kernel.merge(rt, frames); slices.Equal(got, want) {
				return
			}
		}
		rt.Fatalf("%d frames became %d units, the kernel's are %d\n%v\n%v", len(frames), len(got), len(want), got, want)
	}
	for range kernelRounds { // a field is seldom drawn: so often that all are
		rapid.Check(t, alike)
	}
}
