package discovery

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/memberlist"
	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/internal/wholefile"
)

// Fingerprint names a token, or its key, without giving it away.
type Fingerprint [8]byte

func fingerprintOf(key []byte) Fingerprint {
	sum := sha256.Sum256(key)
	return Fingerprint(sum[:8])
}

func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// maxKeys is how many keys a node has at most: the one in use, the next one, and room for two that were made at the same time.
const maxKeys = 4

// keys are a node's, the one it encrypts with first; those after the last are zero.
type keys [maxKeys]Fingerprint

func (k keys) list() []Fingerprint {
	n := slices.Index(k[:], Fingerprint{})
	if n < 0 {
		n = len(k)
	}
	return k[:n]
}

// keyring is what a node keeps of its cluster's keys. An empty one is that of a cluster that is open to everybody.
type keyring struct {
	tokens  []Token       // the one in use first
	retired []Fingerprint // of those that were in use before; the newest last
}

// maxRetired is how many keys that were in use are remembered: a start script may name one of them still.
const maxRetired = 64

func (r *keyring) fingerprints() (k keys) {
	for i, t := range r.tokens {
		k[i] = t.fingerprint()
	}
	return k
}

func (r *keyring) find(t Token) int { return slices.IndexFunc(r.tokens, t.same) }

// newest is the key that all nodes are to use in the end.
func (r *keyring) newest() Token {
	newest := r.tokens[0]
	for _, t := range r.tokens[1:] {
		if t.after(newest) {
			newest = t
		}
	}
	return newest
}

// only leaves one key.
func (r *keyring) only(t Token) keyring {
	next := keyring{tokens: []Token{t}}
	for _, f := range slices.Concat(r.retired, r.fingerprintsBut(t)) {
		if f != t.fingerprint() && !slices.Contains(next.retired, f) {
			next.retired = append(next.retired, f)
		}
	}
	next.retired = next.retired[max(0, len(next.retired)-maxRetired):]
	return next
}

func (r *keyring) fingerprintsBut(t Token) (others []Fingerprint) {
	for _, own := range r.tokens {
		if !own.same(t) {
			others = append(others, own.fingerprint())
		}
	}
	return others
}

// keyringFile lies in the data directory of a node whose cluster has a key.
const keyringFile = "keyring.json"

type keyringJSON struct {
	Keys    [][]byte `json:"keys"`              // the one in use first
	Made    []uint64 `json:"made,omitempty"`    // of each, in milliseconds since 1970; absent in files of versions before
	Retired []string `json:"retired,omitempty"` // fingerprints
}

// readKeyring gives the keys on disk, if there are any.
func readKeyring(dir string) (keyring, error) {
	path := filepath.Join(dir, keyringFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return keyring{}, nil
	}
	if err != nil {
		return keyring{}, err
	}
	r, err := parseKeyring(text)
	if err != nil {
		return keyring{}, fmt.Errorf("keyring file %s is damaged: %w; remove it, and give the daemon the cluster's token by --token", path, err)
	}
	return r, nil
}

func parseKeyring(text []byte) (r keyring, err error) {
	var stored keyringJSON
	if err := json.Unmarshal(text, &stored); err != nil {
		return r, err
	}
	if n := len(stored.Keys); n < 1 || n > maxKeys || slices.ContainsFunc(stored.Keys, func(key []byte) bool { return memberlist.ValidateKey(key) != nil }) {
		return r, fmt.Errorf("it has not from 1 to %d keys of 16, 24 or 32 bytes", maxKeys)
	}
	for i, key := range stored.Keys {
		t := Token{key: key}
		if i < len(stored.Made) {
			t.made = stored.Made[i]
		}
		if r.find(t) >= 0 {
			return r, errors.New("it has a key twice")
		}
		r.tokens = append(r.tokens, t)
	}
	for _, text := range stored.Retired {
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != len(Fingerprint{}) {
			return r, fmt.Errorf("%q is no fingerprint", text)
		}
		r.retired = append(r.retired, Fingerprint(b))
	}
	return r, nil
}

func (r *keyring) encode() ([]byte, error) {
	var stored keyringJSON
	for _, t := range r.tokens {
		stored.Keys, stored.Made = append(stored.Keys, t.key), append(stored.Made, t.made)
	}
	for _, f := range r.retired {
		stored.Retired = append(stored.Retired, f.String())
	}
	return json.Marshal(stored)
}

func (r *keyring) save(dir string) error {
	text, err := r.encode()
	if err == nil {
		err = wholefile.Replace(filepath.Join(dir, keyringFile), append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	return nil
}

// TokenError says why a node does not start with the tokens that it has and was given, and what to do.
type TokenError struct{ text string }

func (e *TokenError) Error() string { return e.text }

// What keeps a node from starting.
var (
	errNoToken = &TokenError{"joining a cluster takes its token: run `overlane token` on one of its hosts, and give what it prints by --token, or the path of a file that holds it"}
	errOpen    = &TokenError{"this host belongs to a cluster, and has no token of it. Where `overlane token` prints one on another host of it, give that by --token. Where none has one, since a version without tokens made the cluster (--gossip-key is not read any more), run `overlane token new` once, stop overlane on all hosts, and start it there with that --token; or leave the cluster open to everybody, with --insecure on all hosts"}
	errClosed  = &TokenError{"--insecure is for a cluster that has no token, and this host's has one: leave it out; or stop overlane on all hosts, and remove keyring.json from the data directory of each"}
	errBoth    = &TokenError{"--insecure and --token exclude each other: leave one of them out"}
)

// openKeyring gives the keys that the node begins with, and keeps them on disk. The first node of a cluster makes its key.
func openKeyring(cfg *Config, member bool) (keyring, error) {
	r, err := readKeyring(cfg.Dir)
	switch {
	case err != nil:
		return r, err
	case cfg.Insecure && !cfg.Token.IsZero():
		return r, errBoth
	case cfg.Insecure && len(r.tokens) > 0:
		return r, errClosed
	case cfg.Insecure:
		cfg.Log.Warn("--insecure: gossip is not encrypted, and everybody who reaches its port is believed")
		return r, nil
	case cfg.Token.IsZero() && len(r.tokens) > 0:
		return r, nil
	case cfg.Token.IsZero() && member:
		return r, errOpen
	case cfg.Token.IsZero() && len(cfg.Join) > 0:
		return r, errNoToken
	case cfg.Token.IsZero():
		r.tokens = []Token{NewToken()}
		cfg.Log.Info("this host begins a cluster: `overlane token` prints what others need to join it")
	default:
		r = r.given(cfg.Token, filepath.Join(cfg.Dir, keyringFile), cfg.Log)
	}
	return r, r.save(cfg.Dir)
}

// given takes note of the token that the daemon was started with. A start script may name one still that was in use before; an operator names one
// that was made while this node was away, or that of another cluster.
func (r *keyring) given(t Token, path string, log logrus.FieldLogger) keyring {
	switch {
	case len(r.tokens) == 0:
		return keyring{tokens: []Token{t}}
	case slices.Contains(r.retired, t.fingerprint()):
		log.Warnf("the token that was given, %s, was in use before and does not count: %s has the one that is; put what `overlane token` prints in its place, or remove that file to go back to it", t.fingerprint(), path)
		return *r
	case r.find(t) < 0:
		log.Warnf("the token that was given, %s, takes the place of %s", t.fingerprint(), r.tokens[0].fingerprint())
	case t.after(r.tokens[0]): // others may have gone on to it without this node
		return r.using(t)
	default:
		return *r
	}
	if t.after(r.newest()) {
		return r.only(t)
	}
	return keyring{[]Token{t}, r.retired} // that of another cluster: this one's may come back
}

// setKeys puts the keys on disk, in use, and into what the others are told.
func (c *Cluster) setKeys(r keyring) error {
	if err := r.save(c.cfg.Dir); err != nil {
		return err
	}
	c.keys = r
	c.gossip.setMeta(func(m *meta) { m.keys = r.fingerprints() })
	c.do(keysEvent{r.fingerprints()})
	if err := c.gossip.installKeys(r.tokens); err != nil {
		return fmt.Errorf("keyring: it is on disk, and in force with the next start: %w", err)
	}
	return nil
}

// installKeys changes memberlist's keys while it runs.
func (g *gossip) installKeys(tokens []Token) error {
	for _, t := range tokens {
		if err := g.keyring.AddKey(t.key); err != nil {
			return err
		}
	}
	if err := g.keyring.UseKey(tokens[0].key); err != nil {
		return err
	}
	for _, key := range g.keyring.GetKeys() {
		if !slices.ContainsFunc(tokens, func(t Token) bool { return bytes.Equal(t.key, key) }) {
			if err := g.keyring.RemoveKey(key); err != nil {
				return err
			}
		}
	}
	return nil
}
