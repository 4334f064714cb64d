package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/overlane/overlane/discovery"
)

// fakeKeyring has a token, and a new one on all hosts as soon as it is asked for.
type fakeKeyring struct {
	token   discovery.Token
	tokens  []discovery.KeyStatus
	rotated []bool // as RotateToken was asked
}

var errOpenCluster = errors.New("it has no token")

func (f *fakeKeyring) Token() (discovery.Token, error) {
	if f.token.IsZero() {
		return f.token, errOpenCluster
	}
	return f.token, nil
}

func (f *fakeKeyring) Keyring() []discovery.KeyStatus { return f.tokens }

func (f *fakeKeyring) RotateToken(now bool) (discovery.Fingerprint, error) {
	f.rotated = append(f.rotated, now)
	f.tokens = []discovery.KeyStatus{{Fingerprint: "0100000000000000", InUse: true}}
	return discovery.Fingerprint{1}, nil
}

func TestTokenCommands(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overlane.sock")
	l, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	c := newControl(func() {})
	go c.server.Serve(l)
	t.Cleanup(func() { c.server.Close() })
	run := func(args ...string) (string, error) {
		return command(append([]string{"token", "--control-socket", path}, args...)...)
	}
	for _, args := range [][]string{nil, {"list"}, {"rotate"}} {
		if _, err := run(args...); err == nil || err.Error() != starting {
			t.Errorf("%v before the daemon is ready: %v", args, err)
		}
	}
	fake := &fakeKeyring{tokens: []discovery.KeyStatus{{Fingerprint: "0102030405060708", InUse: true, UsedBy: []string{"host1"}, Have: []string{"host1", "host2"}, Lack: []string{"host3 (dead)"}}}}
	var k keyring = fake
	c.keyring.Store(&k)

	if out, err := run(); err == nil || err.Error() != errOpenCluster.Error() || out != "" {
		t.Errorf("of an open cluster: %q, %v", out, err)
	}
	fake.token = discovery.NewToken()
	out, err := run()
	if got, wrong := discovery.ParseToken(strings.TrimSuffix(out, "\n")); err != nil || wrong != nil || got.Text() != fake.token.Text() {
		t.Errorf("%v, %v, not the token", err, wrong)
	}
	out, err = run("list")
	if err != nil || !regexp.MustCompile(`(?m)^0102030405060708 +yes +host1 +host1,host2 +host3 \(dead\) *$`).MatchString(out) {
		t.Errorf("list (%v):\n%s", err, out)
	}
	for _, args := range [][]string{{"rotate"}, {"rotate", "--now"}} {
		if out, err := run(args...); err != nil || !strings.Contains(out, "new token 0100000000000000") {
			t.Errorf("%v: %q, %v", args, out, err)
		}
	}
	if len(fake.rotated) != 2 || fake.rotated[0] || !fake.rotated[1] {
		t.Errorf("rotated %v", fake.rotated)
	}
	one, err1 := run("new")
	other, err2 := run("new")
	if _, err := discovery.ParseToken(strings.TrimSpace(one)); err != nil || err1 != nil || err2 != nil || one == other {
		t.Errorf("new: %v, %v, %v", err, err1, err2)
	}
}

// What a rotation waits for is named: hosts that lack the new token, or that still take the old one beside it.
func TestRotationThatTakesLong(t *testing.T) {
	for name, c := range map[string]struct {
		tokens []discovery.KeyStatus
		want   string
	}{
		"a host is down":     {[]discovery.KeyStatus{{Fingerprint: "old", InUse: true, UsedBy: []string{"a"}, Have: []string{"a"}}, {Fingerprint: "new", Have: []string{"a"}, Lack: []string{"b (dead)"}}}, "waiting for b (dead)"},
		"a host is slow":     {[]discovery.KeyStatus{{Fingerprint: "new", InUse: true, UsedBy: []string{"a"}, Have: []string{"a", "b"}}, {Fingerprint: "old", UsedBy: []string{"b"}, Have: []string{"a", "b"}}}, "waiting for hosts that use the old one"},
		"a host keeps both":  {[]discovery.KeyStatus{{Fingerprint: "new", InUse: true, UsedBy: []string{"a", "b"}, Have: []string{"a", "b"}}, {Fingerprint: "old", Have: []string{"b"}}}, "is in use on all hosts, and the old one still lets hosts in on b:"},
		"this host has none": {[]discovery.KeyStatus{{Fingerprint: "old", InUse: true}, {Fingerprint: "older"}}, "waiting for this host"},
	} {
		if err := unfinished(c.tokens, "new"); !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// A token is given itself, or by a file; no error shows it.
func TestTokenSetting(t *testing.T) {
	token := discovery.NewToken().Text()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{token, file, "@" + file} {
		if s := mustRead(t, []string{"--token", text}); s.token.Text() != token {
			t.Errorf("%s is given as %s", s.token, text)
		}
	}
	if s := mustRead(t, []string{"--insecure"}); !s.insecure {
		t.Error("--insecure does not count")
	}
}
