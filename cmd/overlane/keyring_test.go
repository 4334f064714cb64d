package main

import (
	"errors"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/overlane/overlane/discovery"
)

// fakeKeyring keeps what it was told, and refuses to remove.
type fakeKeyring struct{ told []string }

func (f *fakeKeyring) Keyring() []discovery.KeyStatus {
	return []discovery.KeyStatus{{Fingerprint: "0102030405060708", InUse: true, UsedBy: []string{"host1"}, Have: []string{"host1", "host2"}, Lack: []string{"host3 (dead)"}}}
}

func (f *fakeKeyring) AddKey(key []byte) (discovery.Fingerprint, error) {
	f.told = append(f.told, "add "+string(key))
	return discovery.Fingerprint{1}, nil
}

func (f *fakeKeyring) UseKey(k discovery.Fingerprint) error {
	f.told = append(f.told, "use "+k.String())
	return nil
}

func (f *fakeKeyring) RemoveKey(discovery.Fingerprint) error {
	return errors.New("hosts that use it would be cut off")
}

func TestKeyringCommands(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overlane.sock")
	l, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	c := newControl(func() {})
	go c.server.Serve(l)
	t.Cleanup(func() { c.server.Close() })
	run := func(args ...string) (string, error) {
		return command(append([]string{"keyring", "--control-socket", path}, args...)...)
	}
	if _, err := run("list"); err == nil || err.Error() != starting {
		t.Errorf("before the daemon is ready: %v", err)
	}
	if _, err := run("use", "0102030405060708"); err == nil || err.Error() != starting {
		t.Errorf("before the daemon is ready: %v", err)
	}
	fake := new(fakeKeyring)
	var k keyring = fake
	c.keyring.Store(&k)

	out, err := run("list")
	if err != nil || !regexp.MustCompile(`(?m)^0102030405060708 +yes +host1 +host1,host2 +host3 \(dead\) *$`).MatchString(out) {
		t.Errorf("list (%v):\n%s", err, out)
	}
	const key = "MDEyMzQ1Njc4OWFiY2RlZg==" // 0123456789abcdef
	if out, err := run("add", key); err != nil || out != "added key 0100000000000000\n" {
		t.Errorf("add: %q, %v", out, err)
	}
	if out, err := run("use", "0102030405060708"); err != nil || !strings.Contains(out, "encrypts with key 0102030405060708") {
		t.Errorf("use: %q, %v", out, err)
	}
	if got := strings.Join(fake.told, ", "); got != "add 0123456789abcdef, use 0102030405060708" {
		t.Errorf("the daemon was told %s", got)
	}
	for _, tc := range [][]string{
		{"would be cut off", "remove", "0102030405060708"},
		{"no fingerprint", "use", "01"},
		{"no fingerprint", "use", key}, // an easy slip
		{"neither a key nor a path: want 16, 24 or 32 bytes", "add", "secret"},
	} {
		if out, err := run(tc[1:]...); err == nil || !strings.Contains(err.Error(), tc[0]) || strings.Contains(err.Error(), key) || out != "" {
			t.Errorf("%v: %q, %v", tc[1:], out, err)
		}
	}
	if answer, err := exchange(t.Context(), path, http.MethodPost, "keyring/burn", strings.NewReader("0102030405060708")); err == nil {
		t.Errorf("an unknown step: %s", answer)
	}
}
