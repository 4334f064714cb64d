package discovery

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const nextSecret = "fedcba9876543210"

// waitKeys waits until the node sees for each key, the one in use first, which
// hosts have it and which encrypt with it: "host1 host2/host1".
func (n *testNode) waitKeys(want ...string) {
	n.t.Helper()
	sorted := func(hosts []string) string { return strings.Join(slices.Sorted(slices.Values(hosts)), " ") }
	n.wait(10*time.Second, fmt.Sprint("keys ", want), func() bool {
		var got []string
		for _, s := range n.Keyring() {
			got = append(got, sorted(s.Have)+"/"+sorted(s.UsedBy))
		}
		return slices.Equal(got, want)
	})
}

func TestKeyIsRotatedUnderWay(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		nodes := startThree(t, l.listen)
		a, c := nodes[0], nodes[2]
		old, next := fingerprintOf([]byte(secret)), fingerprintOf([]byte(nextSecret))
		for _, n := range nodes[:2] {
			if f, err := n.AddKey([]byte(nextSecret)); err != nil || f != next {
				t.Fatalf("%s: %v", f, err)
			}
		}
		a.waitKeys("host1 host2 host3/host1 host2 host3", "host1 host2/")
		if err := a.UseKey(next); err == nil || !strings.Contains(err.Error(), "host3 (alive)") || strings.Contains(err.Error(), "host2") {
			t.Fatalf("a key that one host lacks was used: %v", err)
		}
		if _, err := c.AddKey([]byte(nextSecret)); err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			n.waitKeys("host1 host2 host3/host1 host2 host3", "host1 host2 host3/")
		}
		if err := a.UseKey(next); err != nil {
			t.Fatal(err)
		}
		if err := a.RemoveKey(old); err == nil || !strings.Contains(err.Error(), "host2") || !strings.Contains(err.Error(), "host3") {
			t.Fatalf("a key in use was removed: %v", err)
		}
		for _, n := range nodes[1:] {
			if err := n.UseKey(next); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range nodes {
			n.waitKeys("host1 host2 host3/host1 host2 host3", "host1 host2 host3/")
		}
		for _, n := range nodes {
			if err := n.RemoveKey(old); err != nil {
				t.Fatal(err)
			}
		}
		e := testEndpoint(1, 9)
		a.Put(appKey, e)
		c.wait(time.Second, "a record under the new key", func() bool { return c.mac(e) != "" })
		for _, n := range nodes {
			if len(n.gone()) > 0 || len(n.Rejected()) > 0 {
				t.Errorf("%s withdrew %v and rejected %v", n.cfg.Host, n.gone(), n.Rejected())
			}
		}
	})
}

func TestKeysOnDiskOutliveARestart(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		n := startNode(t, l.listen, 1, withKey(secret))
		if _, err := n.AddKey([]byte(nextSecret)); err != nil {
			t.Fatal(err)
		}
		next := fingerprintOf([]byte(nextSecret))
		if err := n.UseKey(next); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(n.cfg.Dir, keyringFile)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the keys are readable by %v (%v)", info.Mode(), err)
		}
		for _, key := range [][]byte{nil, []byte(secret)} {
			n.cfg.Key = key
			n.restart()
			if k := n.Keyring(); len(k) != 2 || k[0].Fingerprint != next.String() || !k[0].InUse {
				t.Errorf("keys after a restart: %+v", k)
			}
		}
		// The start script names the old key still, which is on no host any more.
		if err := n.RemoveKey(fingerprintOf([]byte(secret))); err != nil {
			t.Fatal(err)
		}
		n.restart()
		if k := n.Keyring(); len(k) != 1 || k[0].Fingerprint != next.String() {
			t.Errorf("keys after a restart with the removed key: %+v", k)
		}
	})
}

func FuzzOpenKeyring(f *testing.F) {
	for _, text := range []string{
		`{"keys":["MDEyMzQ1Njc4OWFiY2RlZg=="]}`,
		`{"keys":["MDEyMzQ1Njc4OWFiY2RlZg==","ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4"]}`,
		`{"keys":["MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=","","x"]}`,
		`{"keys":[` + strings.Repeat(`"MDEyMzQ1Njc4OWFiY2RlZg==",`, maxKeys) + `"MDEyMzQ1Njc4OWFiY2RlZg=="]}`,
		`{"keys":null}`, "null", "{", "",
	} {
		f.Add([]byte(text))
	}
	dir := f.TempDir()
	path := filepath.Join(dir, keyringFile)
	open := func(t *testing.T, text []byte) ([][]byte, error) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return openKeyring(dir, nil, nil)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		ring, err := open(t, text)
		if err != nil {
			if !strings.Contains(err.Error(), path) {
				t.Fatalf("%v does not name the file", err)
			}
			return
		}
		if len(ring) < 1 || len(ring) > maxKeys {
			t.Fatalf("%d keys", len(ring))
		}
		for _, key := range ring {
			if n := len(key); n != 16 && n != 24 && n != 32 {
				t.Fatalf("a key of %d bytes", n)
			}
		}
		again, err := json.Marshal(keyringJSON{ring})
		if err != nil {
			t.Fatal(err)
		}
		if kept, err := open(t, again); err != nil || !reflect.DeepEqual(kept, ring) {
			t.Fatalf("%x became %x: %v", ring, kept, err)
		}
	})
}

func TestKeyringRefusesWhatItCannot(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		n := startNode(t, l.listen, 1, withKey(secret))
		open := startNode(t, l.listen, 2)
		f := fingerprintOf([]byte(secret))
		_, again := n.AddKey([]byte(secret))
		_, short := n.AddKey([]byte("short"))
		_, plain := open.AddKey([]byte(secret))
		for want, err := range map[string]error{
			"has key":       again,
			"not 5":         short,
			"not encrypted": plain,
			"cut off":       n.RemoveKey(f),
			"does not have": n.RemoveKey(Fingerprint{1}),
			"add it first":  n.UseKey(Fingerprint{1}),
		} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		}
	})
}
