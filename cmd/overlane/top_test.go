package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/overlay"
)

// samples are two, a second apart: web receives most, db sends most bits, and idle does nothing.
func samples() (before, after sample) {
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.Local)
	traffic := func(of string, t datapath.Traffic) overlay.EndpointTraffic {
		return overlay.EndpointTraffic{Network: "app", Endpoint: of, Traffic: t}
	}
	vtep := netip.MustParseAddrPort("192.0.2.2:4789")
	before = sample{
		At: at, Host: "node1", CPUs: []int{2, 3}, Ran: []time.Duration{0, time.Second},
		Endpoints: []overlay.EndpointTraffic{traffic("web", datapath.Traffic{}), traffic("db", datapath.Traffic{TxBytes: 5}), traffic("idle", datapath.Traffic{})},
		Hosts:     []overlay.HostTraffic{{Host: "node2", VTEP: vtep}},
		Drops:     map[string]uint64{"fdb_miss": 7, "spoofed_ip": 1, "vlan": 0},
	}
	after = sample{
		At: at.Add(time.Second), Host: "node1", CPUs: []int{2, 3}, Ran: []time.Duration{500 * time.Millisecond, time.Second + 30*time.Millisecond},
		Endpoints: []overlay.EndpointTraffic{
			traffic("idle", datapath.Traffic{}), traffic("web", datapath.Traffic{RxPackets: 1200, RxBytes: 150_000, TxPackets: 10, TxBytes: 1000}), traffic("db", datapath.Traffic{TxPackets: 100, TxBytes: 1_000_005}),
		},
		Hosts:    []overlay.HostTraffic{{Host: "node2", VTEP: vtep, Traffic: datapath.Traffic{RxPackets: 40, RxBytes: 4000}}},
		Underlay: datapath.Traffic{RxPackets: 40, TxPackets: 1234},
		Drops:    map[string]uint64{"fdb_miss": 7, "spoofed_ip": 26, "vlan": 0},
		Bursts:   []datapath.WorkerBursts{{Ports: datapath.Bursts{Packets: 1300}, Underlay: datapath.Bursts{Packets: 200}}, {}},
	}
	after.Endpoints[1].Drops, after.Endpoints[2].Drops = map[string]uint64{"spoofed_ip": 20}, map[string]uint64{"spoofed_ip": 106, "fdb_miss": 7}
	before.Endpoints[1].Drops = map[string]uint64{"spoofed_ip": 101} // db, long ago
	return before, after
}

func aTop() *top {
	t := newTop()
	before, after := samples()
	t.take(before)
	t.take(after)
	return t
}

// A page of 80 columns has all that moves, by rate.
func TestTopPage(t *testing.T) {
	page := aTop().page(80, 0)
	want := []string{
		"node1 12:00:01 by total; keys: t r s p n sort, q quits",
		"workers CPU 2 50 % 1.5k/s, CPU 3 3 % 0/s",
		"underlay 40 packets/s received, 1.2k sent",
		"",
		"CONTAINER NETWORK RX PKT/S RX BIT/S TX PKT/S TX BIT/S",
		"db app 0 0 100 8.0M",
		"web app 1.2k 1.2M 10 8.0k",
		"idle app 0 0 0 0",
		"",
		"HOST VTEP RX PKT/S RX BIT/S TX PKT/S TX BIT/S",
		"node2 192.0.2.2 40 32k 0 0",
		"",
		"DROPPED PKT/S ALL LAST MOST OF BECAUSE",
		"spoofed_ip 25 26 12:00:01 web source addre…",
	}
	if got := fields(page); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for line := range strings.Lines(page) {
		if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > 80 {
			t.Errorf("wider than 80 columns: %q", line)
		}
	}
}

// Keys sort, and a screen of any size has no more lines and columns than fit, of each table some.
func TestTopFitsTheScreen(t *testing.T) {
	for key, first := range map[byte]string{'t': "db", 'r': "web", 's': "db", 'p': "web", 'n': "db"} {
		top := aTop()
		if !top.press(key) || !top.press('x') {
			t.Errorf("%c quits", key)
		}
		if line := fields(top.page(80, 0))[5]; !strings.HasPrefix(line, first+" ") {
			t.Errorf("%c: first is %q, want %s", key, line, first)
		}
	}
	top := aTop()
	for range 100 {
		top.last.Endpoints = append(top.last.Endpoints, overlay.EndpointTraffic{Network: "app", Endpoint: strings.Repeat("x", 1+len(top.last.Endpoints)), Traffic: datapath.Traffic{}})
	}
	for _, size := range [][2]int{{80, 24}, {40, 10}, {200, 60}, {10, 3}, {1, 1}} {
		page := top.page(size[0], size[1])
		if n := strings.Count(page, "\n"); n > size[1] {
			t.Errorf("%v: %d lines", size, n)
		}
		for line := range strings.Lines(page) {
			if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > size[0] {
				t.Errorf("%v: %q", size, line)
			}
		}
		for _, title := range []string{"CONTAINER", "HOST", "DROPPED", "spoofed_ip"} {
			if size[1] >= 24 && !strings.Contains(page, title) {
				t.Errorf("%v: no %s in\n%s", size, title, page)
			}
		}
	}
}

// A counter that began anew is none that has gone back, and names do not command the terminal.
func TestTopOfOddSamples(t *testing.T) {
	before, after := samples()
	after.Endpoints, before.Endpoints = before.Endpoints, after.Endpoints
	after.Endpoints[1].Endpoint = "\x1b[2Jdb"
	top := newTop()
	top.take(before)
	top.take(after)
	page := top.page(80, 0)
	if strings.Contains(page, "\x1b") || !strings.Contains(page, "?[2Jdb") || !slices.Contains(fields(page), "web app 0 0 0 0") {
		t.Error(page)
	}
}

func TestShort(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 7.4: "7", 999: "999", 999.6: "1.0k", 1234: "1.2k", 9960: "10k", 123456: "123k", 9.99e6: "10M", 1.5e12: "1.5T", 2e15: "2P"} {
		if got := short10(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

// On a terminal a page follows each tick, key and new size, until q; a daemon that does not answer is said, and asked again.
func TestTopLive(t *testing.T) {
	keys, resized, ticks := make(chan byte), make(chan os.Signal), make(chan time.Time)
	pages := make(chan string)
	width := 80
	before, after := samples()
	answers := []func() (sample, error){
		func() (sample, error) { return before, nil },
		func() (sample, error) { return sample{}, errors.New("no daemon answers") },
		func() (sample, error) { return after, nil },
	}
	take := func() (sample, error) {
		next := answers[0]
		answers = answers[1:]
		return next()
	}
	done := make(chan error, 1)
	go func() {
		done <- newTop().run(context.Background(), pageWriter(pages), events{keys, resized, ticks}, func() (int, int) { return width, 24 }, take)
	}()
	step := func(do func(), want string) {
		t.Helper()
		do()
		if page := <-pages; !strings.Contains(page, want) || strings.Count(page, "\r\n") >= 24 {
			t.Errorf("no %q in %q", want, page)
		}
	}
	step(func() {}, "measuring")
	step(func() { ticks <- time.Now() }, "no daemon answers")
	step(func() { ticks <- time.Now() }, "by total")
	step(func() { keys <- 'r' }, "by received")
	step(func() { width = 40; resized <- os.Interrupt }, "node1")
	keys <- 'q'
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type pageWriter chan string

func (w pageWriter) Write(text []byte) (int, error) {
	w <- string(text)
	return len(text), nil
}

// Where the output is no terminal one page comes of two samples.
func TestTopOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	before, after := samples()
	left := []sample{before, after}
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(left[0])
		left = left[1:]
	})}
	go server.Serve(l)
	defer server.Close()
	var out bytes.Buffer
	if err := topOnce(t.Context(), &out, path, time.Millisecond); err != nil || !strings.Contains(out.String(), "spoofed_ip") || strings.Contains(out.String(), "\x1b") {
		t.Errorf("%s (%v)", out.String(), err)
	}
}
