//go:build dptest

package dp

import (
	"bufio"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	farVariable = "OVERLANE_TEST_FAR_END" // the cable's socket, in the process at its other end
	cableVNI    = 4204
)

// An idle worker hears at once of what a device with interrupts has received.
func TestDeviceWakesWorker(t *testing.T) {
	if path := os.Getenv(farVariable); path != "" {
		farEnd(t, path)
		return
	}
	bench()
	path := t.TempDir() + "/cable"
	in := startFarEnd(t, path)
	device, err := OpenDevice("net_virtio_user0,path=" + path)
	check(t, err)
	out, pluggedOff := plug(t, device, [6]byte(dstMAC), dst4, [6]byte(srcMAC), src4)
	frame := append(make([]byte, vnetLen), flow{}.frame(t, 1, 1, 16, fill(100))...)
	buffer := make([]byte, 2048)
	if watched(t) == 0 {
		t.Error("no worker waits for the device")
	}
	var waits []time.Duration
	for range 11 {
		if !within(10*time.Second, asleep) {
			t.Fatal("the workers don't go to sleep")
		}
		start := time.Now()
		_, err = in.Write(frame)
		check(t, err)
		if !within(10*time.Second, func() bool {
			_, err := unix.Read(out, buffer)
			return err == nil
		}) {
			t.Fatalf("nothing came after %v; drops: %v", waits, ReadStats().Drops)
		}
		waits = append(waits, time.Since(start))
	}
	slices.Sort(waits)
	if median := waits[len(waits)/2]; median > 15*time.Millisecond { // a worker that nobody wakes looks by itself every tenth of a second
		t.Errorf("a packet takes %v to an idle worker; all: %v", median, waits)
	}
	keepEventfds(t) // as a peer may those that it was given
	pluggedOff()
	if n := watched(t); n > 0 {
		t.Errorf("workers still wait for %d descriptors of a device that is gone", n)
	}
}

var deviceEvent = regexp.MustCompile(`data:\s+300000000\b`) // DP_TAG_DEVICE

// keepEventfds has them live on when they are closed.
func keepEventfds(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	for _, entry := range entries {
		if kind, _ := os.Readlink("/proc/self/fd/" + entry.Name()); kind != "anon_inode:[eventfd]" {
			continue
		}
		fd, err := strconv.Atoi(entry.Name())
		check(t, err)
		kept, err := unix.Dup(fd)
		check(t, err)
		t.Cleanup(func() { unix.Close(kept) })
	}
}

// watched counts the descriptors of devices for which workers wait (proc(5), fdinfo of epoll).
func watched(t *testing.T) (n int) {
	t.Helper()
	files, err := filepath.Glob("/proc/self/fdinfo/*")
	check(t, err)
	for _, file := range files {
		text, _ := os.ReadFile(file) // some are gone by now
		n += len(deviceEvent.FindAll(text, -1))
	}
	return n
}

// plug connects a device with a socket pair that stands for a container's tap; what the container would read and write is returned.
func plug(t *testing.T, device uint32, mac [6]byte, addr netip.Addr, farMAC [6]byte, farAddr netip.Addr) (container int, off func()) {
	t.Helper()
	tap, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
	check(t, err)
	check(t, AddNet(cableVNI, false))
	far, err := AddPort(Port{VNI: cableVNI, MAC: farMAC, Addrs: []netip.Addr{farAddr}, Device: &device})
	check(t, err)
	near, err := AddPort(Port{VNI: cableVNI, MAC: mac, Addrs: []netip.Addr{addr}, FDs: []int{tap[0]}})
	check(t, err)
	check(t, SetMACPort(cableVNI, farMAC, far))
	check(t, SetMACPort(cableVNI, mac, near))
	return tap[1], func() {
		check(t, DelMAC(cableVNI, farMAC))
		check(t, DelMAC(cableVNI, mac))
		check(t, DelPort(far))
		check(t, DelPort(near))
		check(t, DelNet(cableVNI))
		check(t, CloseDevice(device))
		unix.Close(tap[0])
		unix.Close(tap[1])
	}
}

// startFarEnd starts a process with the other end of the cable; what is written to the file goes into it.
func startFarEnd(t *testing.T, path string) *os.File {
	t.Helper()
	pipe, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	far := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	far.Env = append(os.Environ(), farVariable+"="+path)
	far.ExtraFiles = []*os.File{os.NewFile(uintptr(pipe[1]), "frames")}
	far.Stderr = os.Stderr
	output, err := far.StdoutPipe()
	check(t, err)
	check(t, far.Start())
	far.ExtraFiles[0].Close()
	in := os.NewFile(uintptr(pipe[0]), "frames")
	t.Cleanup(func() {
		in.Close()
		far.Wait()
	})
	lines := bufio.NewScanner(output)
	for lines.Scan() && lines.Text() != "ready" {
		t.Log(lines.Text())
	}
	return in
}

// farEnd passes on what comes until its other end is closed.
func farEnd(t *testing.T, path string) {
	bench()
	device, err := OpenDevice("net_vhost0,iface=" + path)
	check(t, err)
	container, _ := plug(t, device, [6]byte(srcMAC), src4, [6]byte(dstMAC), dst4)
	_, err = os.Stdout.WriteString("ready\n")
	check(t, err)
	in := os.NewFile(3, "frames")
	buffer := make([]byte, 2048)
	for {
		n, err := in.Read(buffer)
		if err != nil {
			return
		}
		_, err = unix.Write(container, buffer[:n])
		check(t, err)
	}
}
