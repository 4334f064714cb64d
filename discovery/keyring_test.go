package discovery

import (
	"fmt"
	"net/netip"
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

// waitOnly waits until this key alone is left, and all use it.
func (n *testNode) waitOnly(f Fingerprint) {
	n.t.Helper()
	n.wait(time.Minute, fmt.Sprint("key ", f), func() bool {
		k := n.Keyring()
		return len(k) == 1 && k[0].Fingerprint == f.String() && k[0].InUse
	})
}

// The key changes on all nodes by itself, and nothing is lost.
func TestTokenIsRotatedUnderWay(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		nodes := startThree(t, l.listen)
		a, c := nodes[0], nodes[2]
		f, err := nodes[1].RotateToken(false)
		if err != nil {
			t.Fatal(err)
		}
		nodes[1].waitOnly(f)
		for _, n := range nodes {
			n.keysMu.Lock()
			own := n.keys.fingerprints().list()
			n.keysMu.Unlock()
			if !slices.Equal(own, []Fingerprint{f}) {
				t.Errorf("%s lets hosts in with %v when %s says that %s alone does", n.cfg.Host, own, nodes[1].cfg.Host, f)
			}
			n.waitOnly(f)
			if token, err := n.Token(); err != nil || token.fingerprint() != f {
				t.Errorf("%s hands out %s (%v), want %s", n.cfg.Host, token, err, f)
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
		old := startNode(t, l.listen, 4, withKey(secret), withJoin(a))
		old.wait(10*time.Second, "the old token is refused", func() bool { return old.Rejected()["key"] > 0 || a.Rejected()["key"] > 0 })
		if got := len(a.Members()); got != 3 {
			t.Errorf("%d members, want 3", got)
		}
	})
}

// Those that are made on all hosts at the same moment, more than a node has room for, end as one.
func TestManyRotationsAreOne(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		const count = 2 * maxKeys
		var nodes []*testNode
		for i := range count {
			options := []nodeOption{withKey(secret)}
			if i > 0 {
				options = append(options, withJoin(nodes[0]))
			}
			nodes = append(nodes, startNode(t, l.listen, i+1, options...))
		}
		for _, n := range nodes {
			n.wait(time.Minute, "all know each other", func() bool { return len(n.Members()) == count })
		}
		var newest Token
		for _, n := range nodes {
			n.keysMu.Lock() // nobody hears of another's before it has its own
		}
		for i, n := range nodes {
			next := NewToken()
			next.made += uint64(i * 7 % count) // in no order
			if newest.IsZero() || next.after(newest) {
				newest = next
			}
			if err := n.takeKey(next); err != nil {
				t.Error(err)
			}
		}
		for _, n := range nodes {
			n.keysMu.Unlock()
			signal(n.rotating)
		}
		for _, n := range nodes {
			n.waitOnly(newest.fingerprint())
		}
	})
}

// A node that is down holds a rotation up, and gets the new key when it is back, unless the operator does not wait for it.
func TestRotationWaitsForWhoIsDown(t *testing.T) {
	for name, now := range map[string]bool{"waits": false, "now": true} {
		t.Run(name, func(t *testing.T) {
			onLAN(t, func(t *testing.T, l *lan) {
				nodes := startThree(t, l.listen)
				a, c := nodes[0], nodes[2]
				address := c.Self().Addr
				if err := c.Close(); err != nil {
					t.Fatal(err)
				}
				a.wait(time.Minute, "it is down", func() bool {
					return slices.ContainsFunc(a.Members(), func(m Member) bool { return m.Host == "host3" && m.State == StateDead })
				})
				f, err := a.RotateToken(false)
				if err != nil {
					t.Fatal(err)
				}
				a.waitKeys("host1 host2 host3/host1 host2 host3", "host1 host2/")
				if now {
					if again, err := a.RotateToken(true); err != nil || again != f {
						t.Fatalf("going on with %s gives %s, %v", f, again, err)
					}
					a.waitKeys("host1 host2/host1 host2")
					return
				}
				c.restartAt(address)
				for _, n := range nodes {
					n.waitOnly(f)
				}
			})
		})
	}
}

// What the daemon was started with counts where it is news.
func TestKeysOnDiskOutliveARestart(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		n := startNode(t, l.listen, 1, withKey(secret))
		next, err := n.RotateToken(false)
		if err != nil {
			t.Fatal(err)
		}
		n.waitOnly(next)
		path := filepath.Join(n.cfg.Dir, keyringFile)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the keys are readable by %v (%v)", info.Mode(), err)
		}
		for _, c := range []struct {
			given Token
			want  Fingerprint
		}{
			{Token{}, next},
			{tokenOf(secret), next}, // a start script names the old one still
			{tokenOf(nextSecret), tokenOf(nextSecret).fingerprint()},
			{tokenOf(secret), tokenOf(nextSecret).fingerprint()},
		} {
			n.cfg.Token = c.given
			n.restart()
			if k := n.Keyring(); len(k) != 1 || k[0].Fingerprint != c.want.String() {
				t.Errorf("keys after a restart with %s: %+v, want %s", c.given, k, c.want)
			}
		}
	})
}

func FuzzOpenKeyring(f *testing.F) {
	for _, text := range []string{
		`{"keys":["MDEyMzQ1Njc4OWFiY2RlZg=="]}`,
		`{"keys":["MDEyMzQ1Njc4OWFiY2RlZg==","ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4"]}`,
		`{"keys":["MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=","","x"]}`,
		`{"keys":[` + strings.Repeat(`"MDEyMzQ1Njc4OWFiY2RlZg==",`, maxKeys) + `"MDEyMzQ1Njc4OWFiY2RlZg=="]}`,
		`{"keys":["MDEyMzQ1Njc4OWFiY2RlZg=="],"made":[1764000000000],"retired":["0123456789abcdef"]}`,
		`{"keys":["MDEyMzQ1Njc4OWFiY2RlZg=="],"made":[-1],"retired":["xyz"]}`,
		`{"keys":null}`, "null", "{", "",
	} {
		f.Add([]byte(text))
	}
	dir := f.TempDir()
	path := filepath.Join(dir, keyringFile)
	open := func(t *testing.T, text []byte) (keyring, error) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return readKeyring(dir)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		ring, err := open(t, text)
		if err != nil {
			if !strings.Contains(err.Error(), path) {
				t.Fatalf("%v does not name the file", err)
			}
			return
		}
		if n := len(ring.tokens); n < 1 || n > maxKeys {
			t.Fatalf("%d keys", n)
		}
		for _, token := range ring.tokens {
			if n := len(token.key); n != 16 && n != 24 && n != 32 {
				t.Fatalf("a key of %d bytes", n)
			}
		}
		again, err := ring.encode()
		if err != nil {
			t.Fatal(err)
		}
		if kept, err := open(t, again); err != nil || !reflect.DeepEqual(kept, ring) {
			t.Fatalf("%+v became %+v: %v", ring, kept, err)
		}
	})
}

// A node that has no token makes one where it begins a cluster, and nowhere else.
func TestTokenIsWantedToJoin(t *testing.T) {
	dir := t.TempDir()
	attempt := func(change func(*Config)) error {
		cfg := Config{Dir: dir, Bind: netip.MustParseAddrPort("127.0.0.1:0"), VTEP: netip.MustParseAddrPort("192.0.2.1:4789")}
		change(&cfg)
		c, err := Open(cfg)
		if err == nil {
			c.Close()
		}
		return err
	}
	refused := func(want string, change func(*Config)) {
		t.Helper()
		if err := attempt(change); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	begin := func(*Config) {}
	join := func(c *Config) { c.Join = []string{"192.0.2.9"} }
	insecure := func(c *Config) { c.Insecure = true }
	refused("overlane token", join)
	refused("leave one of them out", func(c *Config) { c.Insecure, c.Token = true, NewToken() })
	if err := attempt(insecure); err != nil {
		t.Error(err)
	}
	if err := attempt(begin); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*Config){begin, join} {
		if err := attempt(change); err != nil {
			t.Error(err)
		}
	}
	refused("remove keyring.json", insecure)

	dir = t.TempDir()
	if err := saveCluster(dir, clusterID{1}); err != nil {
		t.Fatal(err)
	}
	refused("overlane token new", begin)
	refused("overlane token new", join)
	if err := attempt(func(c *Config) { c.Token = NewToken() }); err != nil {
		t.Error(err)
	}
}

func TestInsecureClusterHasNoToken(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		n := startNode(t, l.listen, 1)
		_, err1 := n.Token()
		_, err2 := n.RotateToken(false)
		for _, err := range []error{err1, err2} {
			if err == nil || !strings.Contains(err.Error(), "--insecure") {
				t.Errorf("%v, want a word of --insecure", err)
			}
		}
	})
}

// What is no key of a member's own changes nothing; a key of a member's is taken.
func TestKeyMessagesThatAreRefused(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		a := startNode(t, l.listen, 1, withKey(secret))
		b := startNode(t, l.listen, 2, withKey(secret), withJoin(a))
		b.waitState(10*time.Second, a, StateAlive)
		a.waitState(10*time.Second, b, StateAlive)
		good := NewToken()
		from := func(id nodeID, hurry byte, t Token) message {
			return append(append(append(message{keyMessageVersion}, id[:]...), hurry), t.encode()...)
		}
		refused := []message{
			from(nodeID{9}, 0, good), {keyMessageVersion}, from(b.identity.id, 2, good), from(b.identity.id, 0, Token{key: []byte("short")}),
		}
		for _, m := range refused {
			if !a.receiveKey(m) {
				t.Errorf("%x is no message with a key", m)
			}
		}
		if got := a.Rejected()["key_message"]; got != uint64(len(refused)) {
			t.Errorf("%d refused, want %d", got, len(refused))
		}
		late := good
		late.made += uint64((2 * maxAhead).Milliseconds())
		a.receiveKey(from(b.identity.id, 0, late))
		a.wait(time.Second, "it is told of a key of tomorrow's", func() bool { return strings.Contains(a.logged.String(), "later than this host's clock") })
		if k := a.Keyring(); len(k) != 1 {
			t.Errorf("keys: %+v", k)
		}
		a.receiveKey(from(b.identity.id, 0, good))
		a.wait(time.Second, "the good one is taken", func() bool { k := a.Keyring(); return len(k) > 1 || k[0].Fingerprint == good.fingerprint().String() })
		a.waitOnly(good.fingerprint())
		b.waitOnly(good.fingerprint())
	})
}

// A message from a rotation before does not have the next one pass over who is down.
func TestHurryIsOfItsOwnRotation(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		n := startNode(t, l.listen, 1, withKey(secret))
		first, next := n.keys.tokens[0], NewToken()
		for _, k := range []keyMessage{{first, true}, {next, false}, {first, true}} {
			n.keysMu.Lock()
			n.keys.tokens = []Token{first, next}
			n.keysMu.Unlock()
			if err := n.hearKey(k); err != nil || n.hurry {
				t.Fatalf("%+v: hurry %v, %v", k, n.hurry, err)
			}
		}
	})
}

// A node that was away while the others went on finds back: by itself where it had the new key already, with the token where it had not.
func TestRotationEndsWithoutANode(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		nodes := startThree(t, l.listen)
		a, b, c := nodes[0], nodes[1], nodes[2]
		waitDown := func(n *testNode) {
			t.Helper()
			a.wait(time.Minute, "it is down", func() bool {
				return slices.ContainsFunc(a.Members(), func(m Member) bool { return m.Host == n.cfg.Host && m.State == StateDead })
			})
		}
		stop := func(n *testNode) (address netip.AddrPort) {
			t.Helper()
			address = n.Self().Addr
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
			waitDown(n)
			return address
		}
		atC := stop(c)
		f, err := a.RotateToken(false)
		if err != nil {
			t.Fatal(err)
		}
		b.wait(20*time.Second, "the new key is there", func() bool { return len(b.Keyring()) == 2 })
		atB := stop(b)
		if _, err := a.RotateToken(true); err != nil {
			t.Fatal(err)
		}
		a.wait(20*time.Second, "it goes on alone", func() bool { return len(a.Keyring()) == 1 })
		token, _ := a.Token()
		for _, back := range []struct {
			node    *testNode
			address netip.AddrPort
		}{{b, atB}, {c, atC}} {
			back.node.cfg.Token = token
			back.node.restartAt(back.address)
			back.node.waitOnly(f)
			back.node.waitState(time.Minute, a, StateAlive)
			a.waitState(time.Minute, back.node, StateAlive)
		}
	})
}

func TestTokenText(t *testing.T) {
	token := NewToken()
	text := token.Text()
	if got, err := ParseToken(text); err != nil || !got.same(token) || got.made != token.made {
		t.Fatalf("%s became %s: %v", token, got, err)
	}
	if said := fmt.Sprintf("%v %s", token, token); strings.Contains(said, text[len(tokenPrefix)+8:]) || !strings.Contains(said, token.fingerprint().String()) {
		t.Errorf("printed as %q", said)
	}
	for name, text := range map[string]string{
		"a part": text[:len(text)-1], "a letter more": text + "A", "another letter": strings.Replace(text, text[20:21], string('A'+(text[20]-'A'+1)%26), 1),
		"no prefix": strings.TrimPrefix(text, tokenPrefix), "empty": "", "prefix": tokenPrefix, "a key": secret,
	} {
		if _, err := ParseToken(text); err == nil || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
