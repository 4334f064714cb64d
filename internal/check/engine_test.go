package check

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Engines that crash with overlane are told by their version.
func TestEngine(t *testing.T) {
	for version, want := range map[string]State{
		"29.0.0": Fail, "29.0.2": Fail, "29.0.3": OK, "29.1.0": OK, "29.0.1-rc.1": Fail,
		"28.5.2": OK, "20.10.24+dfsg1": OK, "20.10": OK, "19.03.15": Warn, "1.13.1": Warn, "dev": OK,
	} {
		path := filepath.Join(t.TempDir(), "docker.sock")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"Version":%q}`, version) })}
		go server.Serve(l)
		r := engineSocket(path)
		server.Close()
		if r.State != want || !strings.HasPrefix(r.Seen, version) || (r.Cure == "") != (want == OK) {
			t.Errorf("%s: %+v, want %s", version, r, want)
		}
	}
	if r := engineSocket(filepath.Join(t.TempDir(), "none")); r.State != Warn {
		t.Errorf("no engine: %+v", r)
	}
}

// An engine that leaves forwarding off gives its containers no way out.
func TestForwarding(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ip_forward")
	says(t, forwarding(path), Warn, "can't tell")
	for text, want := range map[string]State{"0\n": Warn, "1\n": OK} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := forwarding(path); r.State != want || (want == Warn && !strings.Contains(r.Cure, "ip_forward=1")) {
			t.Errorf("%q: %+v, want %s", text, r, want)
		}
	}
}
