package main

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/overlane/overlane/connectivity"
	"github.com/overlane/overlane/overlay"
)

// aTest is one of three hosts, of which one can't be tested, and of two that reach each other one way alone.
func aTest() connectivity.Result {
	good := []connectivity.Check{{Name: "ping", OK: true}, {Name: "mtu", OK: true}, {Name: "tcp", OK: true}, {Name: "udp", OK: true}, {Name: "ping6", OK: true}, {Name: "name", OK: true}}
	bad := []connectivity.Check{{Name: "ping", Problem: "no answer"}, {Name: "mtu", Skipped: "no answer by UDP"}, {Name: "udp", Problem: "no answer"}, {Name: "name", OK: true}}
	return connectivity.Result{
		Network: "network=overlane-test-00000001", Own: true, Seconds: 6.04,
		Hosts: []connectivity.HostResult{
			{ID: "1", Host: "host1", Tested: true, Addrs: []netip.Addr{netip.MustParseAddr("198.18.0.1")}, MTU: 1450, Drops: map[string]uint64{"vtep_unknown": 7, "probe": 3}},
			{ID: "2", Host: "host2", Tested: true, MTU: 1450, Unnamed: "no socket", Unwell: []overlay.Problem{{What: "container web on app", Health: overlay.Health{Reason: "eth0 is down", Advice: "restart it"}}}},
			{ID: "3", Host: "host3", Health: overlay.Health{Reason: "it is down", Advice: "start it"}},
		},
		Pairs: []connectivity.PairResult{
			{FromID: "1", From: "host1", ToID: "2", To: "host2", OK: true, Checks: good},
			{FromID: "2", From: "host2", ToID: "1", To: "host1", Checks: bad, Health: overlay.Health{Reason: "a firewall?", Advice: "open it"}},
			{FromID: "2", From: "host2", ToID: "4", To: "host4", Checks: []connectivity.Check{{Name: "tcp", Problem: "no answer"}}, Health: overlay.Health{Reason: "a firewall?", Advice: "open it"}},
		},
	}
}

// fields are a table's lines, with single spaces.
func fields(text string) (lines []string) {
	for line := range strings.Lines(text) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return lines
}

func TestConnectivityTables(t *testing.T) {
	var out bytes.Buffer
	if err := writeConnectivity(&out, aTest(), false); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"HOST PING SIZES TCP UDP IPV6 NAME MTU ADDRESSES",
		"host1 1/1 1/1 1/1 1/1 1/1 1/1 1450 198.18.0.1",
		"host2 0/1 - 0/1 0/1 - 1/1 1450 -",
		"",
		"NO NAMES host2",
		"because containers that it starts are found by address alone: no socket",
		"next see docs/names.md",
		"",
		"NOT TESTED host3",
		"because it is down",
		"next start it",
		"",
		"FAILED host2 to host1: ping,udp",
		"host2 to host4: tcp",
		"because a firewall?",
		"next open it",
		"",
		"NOT WELL container web on app, host host2",
		"because eth0 is down",
		"next restart it",
		"",
		"DROPPED MEANWHILE ON PACKETS BECAUSE",
		"vtep_unknown host1 7 from an address that is no VTEP of ours",
		"",
		"2 of 3 hosts tested on a network made for the test in 6.0 s: 2 of 3 ways from host to host fail; containers that are not well: 1",
	}
	if got := strings.Join(fields(out.String()), "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	out.Reset()
	if err := writeConnectivity(&out, aTest(), true); err != nil || !strings.Contains(out.String(), "\nNO NAMES") || !strings.Contains(out.String(), "\x1b[31mFAILED  host2 to host1: ping,udp\n        host2 to host4: tcp\n") {
		t.Errorf("on a terminal: %q (%v)", out.String(), err)
	}
}

func TestConnectivitySummary(t *testing.T) {
	all := connectivity.Result{OK: true, Network: "subnet=10.20.0.0/16", Seconds: 1, Sample: 4, Hosts: []connectivity.HostResult{{Tested: true}, {Tested: true}}}
	if got, want := summary(all), "2 of 2 hosts tested on network subnet=10.20.0.0/16 in 1.0 s, each with at least 4 others chosen at random, since there are so many: all of these reach each other"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	// A host that is not there is no good news.
	for hosts, want := range map[int]string{3: "2 of 3 hosts tested on network app in 1.0 s: these reach each other, 1 could not be tested", 2: "1 of 2 hosts tested on network app in 1.0 s: 1 could not be, so that nothing is known"} {
		some := connectivity.Result{Network: "app", Seconds: 1, Hosts: make([]connectivity.HostResult, hosts)}
		for i := range hosts - 1 {
			some.Hosts[i].Tested = true
		}
		if got := summary(some); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// The command shows what the daemon finds, and ends with an error when something fails.
func TestConnectivityCommand(t *testing.T) {
	for name, test := range map[string]struct {
		news []testNews
		args string
		want string // in what is shown
		err  string
	}{
		"all well":   {[]testNews{{Progress: "making probes"}, {Result: &connectivity.Result{OK: true}}}, "", "all of these reach each other", ""},
		"one fails":  {[]testNews{{Result: func() *connectivity.Result { r := aTest(); return &r }()}}, "-o json", `"from": "host2"`, errTestFailed.Error()},
		"refused":    {[]testNews{{Error: "a test is under way"}}, "", "", "a test is under way"},
		"broken off": {[]testNews{{Progress: "making probes"}}, "", "", "ended before the test did"},
		"bad form":   {nil, "-o xml", "", `--output "xml"`},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "control.sock")
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for _, n := range test.news {
					json.NewEncoder(w).Encode(n)
				}
			})}
			go server.Serve(l)
			defer server.Close()
			var out bytes.Buffer
			root := rootCommand()
			root.SetOut(&out)
			root.SetErr(&out)
			root.SetArgs(append([]string{"connectivity", "--control-socket", path}, strings.Fields(test.args)...))
			err = root.Execute()
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) || !strings.Contains(out.String(), test.want) {
				t.Errorf("%v, want %q; shown: %s", err, test.err, out.String())
			}
		})
	}
}
