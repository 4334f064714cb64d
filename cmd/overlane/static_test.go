package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/overlane/overlane/discovery"
)

func readStatic(t *testing.T, text string) ([]discovery.Static, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "static")
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
