package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/overlane/overlane/discovery"
)

func readStatic(t *testing.T, text string) ([]discovery.Static, error) {
	t.Helper()
	return readStaticAt(t, filepath.Join(t.TempDir(), "static"), text)
}

func readStaticAt(t *testing.T, path, text string) ([]discovery.Static, error) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var s settings
	err := parseStatic(&s, path)
	return s.static, err
}

func TestStaticFile(t *testing.T) {
	statics, err := readStatic(t, "# switches\n\n5000 02:42:0a:14:00:09 10.20.0.9,fd00::9 192.0.2.9 # rack 1\n5001 02:42:0a:14:00:0a - [2001:db8::9]:8472\n")
	if err != nil || len(statics) != 2 {
		t.Fatalf("%+v, %v", statics, err)
	}
	first, second := statics[0], statics[1]
	if first.VNI != 5000 || first.VTEP != netip.MustParseAddrPort("192.0.2.9:4789") || first.Endpoint.MAC.String() != "02:42:0a:14:00:09" ||
		len(first.Endpoint.Addrs) != 2 || first.Endpoint.Addrs[1] != netip.MustParseAddr("fd00::9") || first.Endpoint.ID != "192.0.2.9" {
		t.Errorf("%+v", first)
	}
	if second.VTEP != netip.MustParseAddrPort("[2001:db8::9]:8472") || second.Endpoint.Addrs != nil {
		t.Errorf("%+v", second)
	}
}

func TestStaticFileNamesTheWrongLine(t *testing.T) {
	for line, want := range map[string]string{
		"5000 02:42:0a:14:00:09 10.20.0.9":         "line 2: 3 words",
		"x 02:42:0a:14:00:09 - 192.0.2.9":          `line 2: "x" is no VNI`,
		"5000 02:42 - 192.0.2.9":                   "line 2: MAC address",
		"5000 02:42:0a:14:00:09 10.20.0 192.0.2.9": `line 2: "10.20.0" is no IP address`,
		"5000 02:42:0a:14:00:09 - switch1":         `line 2: VTEP "switch1"`,
	} {
		if _, err := readStatic(t, "# first\n"+line+"\n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func FuzzParseStatic(f *testing.F) {
	for _, text := range []string{
		"# switches\n\n5000 02:42:0a:14:00:09 10.20.0.9,fd00::9 192.0.2.9 # rack 1\n5001 02-42-0a-14-00-0a - [2001:db8::9]:8472\r\n",
		"5000 0242.0a14.0009 ::ffff:10.20.0.9,fe80::1%eth0 [::ffff:192.0.2.9]:0",
		"4294967296 02:42:0a:14:00:09 - 192.0.2.9",
		"5000 02:42:0a:14:00:09 , 192.0.2.9", "5000 02:42 - x", "x", "",
	} {
		f.Add(text)
	}
	path := filepath.Join(f.TempDir(), "static")
	f.Fuzz(func(t *testing.T, text string) {
		statics, err := readStaticAt(t, path, text)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "line ") {
				t.Fatalf("%v does not name the line", err)
			}
			return
		}
		if lines := strings.Count(text, "\n") + 1; len(statics) > lines {
			t.Fatalf("%d endpoints on %d lines", len(statics), lines)
		}
		var again strings.Builder
		for _, s := range statics {
			var addrs []string
			for _, a := range s.Endpoint.Addrs {
				addrs = append(addrs, a.String())
			}
			fmt.Fprintln(&again, s.VNI, s.Endpoint.MAC, cmp.Or(strings.Join(addrs, ","), "-"), s.VTEP)
		}
		if same, err := readStaticAt(t, path, again.String()); err != nil || !reflect.DeepEqual(same, statics) {
			t.Fatalf("%+v became %+v: %v", statics, same, err)
		}
	})
}
