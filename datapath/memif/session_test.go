package memif

import (
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/datapath/dp"
)

// port says how often its rings were started and stopped.
type port struct{ starts, stops int }

func (p *port) Start(dp.Memif, int) error { p.starts++; return nil }
func (p *port) Stop()                     { p.stops++ }

// pair is a connection, and the server's end of it.
func pair(t testing.TB) (client, server *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "end")
		conn, err := net.FileConn(file)
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = conn.(*net.UnixConn)
	}
	return ends[0], ends[1]
}

func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// message is one of a server's, filled up with zeros.
func message(k kind, body ...byte) []byte {
	m := append(native.AppendUint16(nil, uint16(k)), body...)
	return append(m, make([]byte, messageLen-len(m))...)
}

func greet(lowest, highest uint16, log2 byte) []byte {
	body := make([]byte, nameLen)
	body = native.AppendUint16(body, lowest)
	body = native.AppendUint16(body, highest)
	return message(hello, append(body, 0, 0, 0, 0, 0, 0, log2)...)
}

// serve has a server say messages and go, whatever it hears.
func serve(t testing.TB, messages ...[]byte) (*port, error) {
	t.Helper()
	client, server := pair(t)
	for _, m := range messages {
		if _, err := server.Write(m); err != nil {
			t.Fatal(err)
		}
	}
	var gone sync.WaitGroup
	defer gone.Wait()
	gone.Go(func() {
		defer server.Close()
		server.CloseWrite()
		server.SetReadDeadline(time.Now().Add(10 * time.Second))
		for err := error(nil); err == nil; {
			_, err = server.Read(make([]byte, messageLen)) // files that come with it are closed by the kernel
		}
	})
	p := &port{}
	err := Serve(client, p)
	client.Close()
	return p, err
}

// made are the messages of a server with which a connection is made.
func made() [][]byte {
	return [][]byte{greet(version, version, 14), message(ack), message(ack), message(ack), message(ack), message(connected)}
}

// Rings are started when the server is connected, not before, and stopped once.
func TestServe(t *testing.T) {
	serve(t) // the runtime opens files of its own with the first connection
	before := openFiles(t)
	for name, test := range map[string]struct {
		messages [][]byte
		starts   int
		fails    string // in the error; empty: there is none
	}{
		"nothing":      {nil, 0, "before it was made"},
		"greeting":     {made()[:1], 0, "before it was made"},
		"not quite":    {made()[:5], 0, "before it was made"},
		"made":         {made(), 1, ""},
		"leave":        {append(made(), message(disconnect)), 1, ""},
		"more":         {append(made(), message(ack)), 1, "ACK from a program that is connected"},
		"newer":        {[][]byte{greet(version+1, version+1, 14)}, 0, "memif 2.1 to 2.1: want 2.0"},
		"range":        {append([][]byte{greet(0, 1<<16-1, 14)}, made()[1:]...), 1, ""},
		"small rings":  {[][]byte{greet(version, version, dp.MemifMin-1)}, 0, "rings of 32 slots at most: want 64"},
		"smallest":     {append([][]byte{greet(version, version, dp.MemifMin)}, made()[1:]...), 1, ""},
		"odd log2":     {append([][]byte{greet(version, version, 255)}, made()[1:]...), 1, ""},
		"out of order": {[][]byte{made()[0], message(connected)}, 0, "CONNECTED where ACK is due"},
		"refusal":      {[][]byte{made()[0], message(disconnect, 0, 0, 0, 0, 'n', 'o')}, 0, "refuses the connection: \"no\""},
		"short":        {[][]byte{{1, 0}}, 0, "of 2 bytes: want 128"},
		"long":         {[][]byte{make([]byte, 4096)}, 0, "more than 128 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := serve(t, test.messages...)
			if (err != nil) != (test.fails != "") || err != nil && !strings.Contains(err.Error(), test.fails) || p.starts != test.starts || p.stops != test.starts {
				t.Errorf("%d starts, %d stops, %v", p.starts, p.stops, err)

			}
		})
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d files are open, %d were before", after, before)
	}
}

// Whatever a server says, it comes to an end, and nothing stays open.
func FuzzServe(f *testing.F) {
	var all []byte
	for _, m := range made() {
		all = append(all, m...)
	}
	f.Add(all, uint8(messageLen))
	f.Add(append(all, message(disconnect)...), uint8(messageLen))
	f.Add(all, uint8(messageLen-1))
	f.Add([]byte("hello"), uint8(1))
	f.Fuzz(func(t *testing.T, said []byte, length uint8) {
		var messages [][]byte
		for size := max(int(length), 1); len(said) > 0 && len(messages) < 20; said = said[min(size, len(said)):] {
			messages = append(messages, said[:min(size, len(said))])
		}
		p, _ := serve(t, messages...)
		if p.starts > 1 || p.stops != p.starts {
			t.Errorf("%d starts, %d stops", p.starts, p.stops)
		}
	})
}
