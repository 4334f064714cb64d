package discovery

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestIdentityStaysAndIncarnationRises(t *testing.T) {
	dir := t.TempDir()
	at := time.UnixMilli(1_700_000_000_000)
	first, err := openIdentity(dir, at)
	if err != nil {
		t.Fatal(err)
	}
	if first.restarted || first.incarnation != uint64(at.UnixMilli()) {
		t.Errorf("a new node is %+v", first)
	}
	for _, s := range []struct {
		clock time.Time
		want  uint64
	}{
		{at.Add(time.Hour), uint64(at.Add(time.Hour).UnixMilli())},
		{at.Add(time.Hour), uint64(at.Add(time.Hour).UnixMilli()) + 1},
		{at.Add(-time.Hour), uint64(at.Add(time.Hour).UnixMilli()) + 2}, // the clock went back
	} {
		again, err := openIdentity(dir, s.clock)
		if err != nil {
			t.Fatal(err)
		}
		if again.id != first.id || !again.restarted || again.incarnation != s.want {
			t.Errorf("at %s: %+v, not incarnation %d of %s", s.clock, again, s.want, first.id)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("the directory has %v", entries)
	}
}

func TestDamagedIdentityIsNotReplaced(t *testing.T) {
	for _, text := range []string{"", "{", `{"id":"xx","incarnation":1}`, `{"id":"00000000000000000000000000000001","incarnation":-1}`,
		`{"id":"00000000000000000000000000000001","incarnation":18446744073709551615}`, `{"id":"00000000000000000000000000000001","incarnation":18446744073709551614}`} {
		dir := t.TempDir()
		path := filepath.Join(dir, identityFile)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if id, err := openIdentity(dir, time.Now()); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %+v, %v", text, id, err)
		}
		if kept, _ := os.ReadFile(path); string(kept) != text {
			t.Errorf("%q became %q", text, kept)
		}
	}
}

func FuzzOpenIdentity(f *testing.F) {
	for _, text := range []string{
		`{"id":"0123456789abcdef0123456789ABCDEF","incarnation":1700000000000}`,
		`{"id":"00000000000000000000000000000001","incarnation":9007199254740990}`, // the last but one
		`{"id":"00000000000000000000000000000001","incarnation":9007199254740991}`,
		`{"id":"00000000000000000000000000000001","incarnation":-1}`,
		`{"id":"00000000000000000000000000000001","incarnation":1e3}`,
		`{"id":"xx"}`, "null", "{", "",
	} {
		f.Add([]byte(text))
	}
	dir := f.TempDir()
	path := filepath.Join(dir, identityFile)
	at := time.UnixMilli(1_700_000_000_000)
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		i, err := openIdentity(dir, at)
		if err != nil {
			if kept, _ := os.ReadFile(path); !bytes.Equal(kept, text) || !strings.Contains(err.Error(), path) {
				t.Fatalf("%q became %q: %v", text, kept, err)
			}
			return
		}
		if !i.restarted || i.incarnation < uint64(at.UnixMilli()) || i.incarnation > maxIncarnation {
			t.Fatalf("%q is %+v", text, i)
		}
		again, err := openIdentity(dir, at)
		if i.incarnation == maxIncarnation {
			if err == nil {
				t.Fatalf("after the last incarnation comes %d", again.incarnation)
			}
			return
		}
		if err != nil || again.id != i.id || again.incarnation != i.incarnation+1 {
			t.Fatalf("%+v became %+v: %v", i, again, err)
		}
	})
}

func TestIdentityNeedsItsDirectory(t *testing.T) {
	if _, err := openIdentity(filepath.Join(t.TempDir(), "missing"), time.Now()); err == nil {
		t.Error("no error without a directory")
	}
}
