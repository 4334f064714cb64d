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
	"strings"

	"github.com/hashicorp/memberlist"
	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/internal/wholefile"
)

// Fingerprint names a gossip key without giving it away.
type Fingerprint [8]byte

func fingerprintOf(key []byte) Fingerprint {
	sum := sha256.Sum256(key)
	return Fingerprint(sum[:8])
}

func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// ParseFingerprint reads what String gives.
func ParseFingerprint(s string) (f Fingerprint, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(f) {
		// What was given may be a key.
		return f, fmt.Errorf("what was given is no fingerprint of a key: that has %d hexadecimal digits, as `overlane keyring list` shows", 2*len(f))
	}
	return Fingerprint(b), nil
}

// maxKeys is how many keys a node has at most: the one in use, the next one, and
// room for a change of mind.
const maxKeys = 4

// keys are a node's, the one it encrypts with first; those after the last are zero.
type keys [maxKeys]Fingerprint

func fingerprints(ring [][]byte) (k keys) {
	for i, key := range ring {
		k[i] = fingerprintOf(key)
	}
	return k
}

func (k keys) list() []Fingerprint {
	n := slices.Index(k[:], Fingerprint{})
	if n < 0 {
		n = len(k)
	}
	return k[:n]
}

// keyringFile lies in the data directory once the keys have been changed.
const keyringFile = "keyring.json"

type keyringJSON struct {
	Keys [][]byte `json:"keys"` // the one in use first
}

// openKeyring gives the keys on disk, or else the one that was configured: that may be an old one, which was
// removed from all hosts while the start script still names it.
func openKeyring(dir string, configured []byte, log logrus.FieldLogger) ([][]byte, error) {
	path := filepath.Join(dir, keyringFile)
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && configured == nil:
		return nil, nil
	case errors.Is(err, fs.ErrNotExist):
		return [][]byte{configured}, nil
	case err != nil:
		return nil, err
	}
	var stored keyringJSON
	if err := json.Unmarshal(text, &stored); err != nil {
		return nil, fmt.Errorf("keyring file %s is damaged: %w", path, err)
	}
	if n := len(stored.Keys); n < 1 || n > maxKeys || slices.ContainsFunc(stored.Keys, func(key []byte) bool { return memberlist.ValidateKey(key) != nil }) {
		return nil, fmt.Errorf("keyring file %s is damaged: it has not from 1 to %d keys of 16, 24 or 32 bytes", path, maxKeys)
	}
	if configured != nil && !slices.ContainsFunc(stored.Keys, func(key []byte) bool { return bytes.Equal(key, configured) }) {
		log.Warnf("the gossip key that was given is none of those in %s and does not count: the keys are there since `overlane keyring` changed them; leave the key out, or remove the file to go back to it", path)
	}
	return stored.Keys, nil
}

// KeyStatus is one gossip key, and which hosts have it.
type KeyStatus struct {
	Fingerprint string   `json:"fingerprint"`
	InUse       bool     `json:"in_use"`  // this node encrypts with it
	UsedBy      []string `json:"used_by"` // hosts that encrypt with it, this one included
	Have        []string `json:"have"`
	Lack        []string `json:"lack"`
}

// Keyring lists this node's keys, the one in use first. Hosts that left do not
// count; those that are down do, for they are to come back.
func (c *Cluster) Keyring() []KeyStatus {
	c.keysMu.Lock()
	defer c.keysMu.Unlock()
	all := []KeyStatus{}
	for i, key := range c.keys {
		all = append(all, c.keyStatus(fingerprintOf(key), i == 0))
	}
	return all
}

func (c *Cluster) keyStatus(f Fingerprint, inUse bool) KeyStatus {
	s := KeyStatus{Fingerprint: f.String(), InUse: inUse, UsedBy: []string{}, Have: []string{}, Lack: []string{}}
	for _, m := range c.Members() {
		at := slices.Index(m.Keys, f)
		switch {
		case m.State == StateLeft:
		case at < 0:
			s.Lack = append(s.Lack, fmt.Sprintf("%s (%s)", m.Host, m.State))
		default:
			s.Have = append(s.Have, m.Host)
			if at == 0 {
				s.UsedBy = append(s.UsedBy, m.Host)
			}
		}
	}
	return s
}

var errNotEncrypted = errors.New("gossip is not encrypted: start overlane with a gossip key on all hosts first")

// AddKey makes this node take what is encrypted with one more key.
func (c *Cluster) AddKey(key []byte) (Fingerprint, error) {
	c.keysMu.Lock()
	defer c.keysMu.Unlock()
	f := fingerprintOf(key)
	switch {
	case len(c.keys) == 0:
		return f, errNotEncrypted
	case memberlist.ValidateKey(key) != nil:
		return f, fmt.Errorf("a gossip key has 16, 24 or 32 bytes, not %d", len(key))
	case c.findKey(f) >= 0:
		return f, fmt.Errorf("this host has key %s already", f)
	case len(c.keys) == maxKeys:
		return f, fmt.Errorf("this host has %d keys, which is all it can: remove one first", maxKeys)
	}
	return f, c.setKeys(append(slices.Clone(c.keys), key))
}

// UseKey makes this node encrypt with a key that it has, unless a host would be
// cut off that has not.
func (c *Cluster) UseKey(f Fingerprint) error {
	c.keysMu.Lock()
	defer c.keysMu.Unlock()
	at := c.findKey(f)
	if at < 0 {
		return fmt.Errorf("this host does not have key %s: add it first", f)
	}
	if lack := c.keyStatus(f, false).Lack; len(lack) > 0 {
		return fmt.Errorf("key %s would cut off hosts that lack it, or have not told of it yet: %s; add it there first", f, strings.Join(lack, ", "))
	}
	ring := slices.Delete(slices.Clone(c.keys), at, at+1)
	return c.setKeys(slices.Insert(ring, 0, c.keys[at]))
}

// RemoveKey makes this node refuse what is encrypted with a key, unless a host
// still encrypts with it.
func (c *Cluster) RemoveKey(f Fingerprint) error {
	c.keysMu.Lock()
	defer c.keysMu.Unlock()
	at := c.findKey(f)
	if at < 0 {
		return fmt.Errorf("this host does not have key %s", f)
	}
	if users := c.keyStatus(f, false).UsedBy; at == 0 || len(users) > 0 {
		return fmt.Errorf("hosts that use key %s would be cut off: %s; use another key there first", f, strings.Join(users, ", "))
	}
	return c.setKeys(slices.Delete(slices.Clone(c.keys), at, at+1))
}

func (c *Cluster) findKey(f Fingerprint) int {
	return slices.IndexFunc(c.keys, func(key []byte) bool { return fingerprintOf(key) == f })
}

// setKeys puts the keys on disk, in use, and into what the others are told.
func (c *Cluster) setKeys(ring [][]byte) error {
	text, err := json.Marshal(keyringJSON{ring})
	if err != nil {
		return err
	}
	if err := wholefile.Replace(filepath.Join(c.cfg.Dir, keyringFile), append(text, '\n')); err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	c.keys = ring
	if err := c.gossip.installKeys(ring); err != nil {
		return fmt.Errorf("keyring: it is on disk, and in force with the next start: %w", err)
	}
	c.gossip.setMeta(func(m *meta) { m.keys = fingerprints(ring) })
	c.do(keysEvent{fingerprints(ring)})
	return nil
}

// installKeys changes memberlist's keys while it runs.
func (g *gossip) installKeys(ring [][]byte) error {
	for _, key := range ring {
		if err := g.keyring.AddKey(key); err != nil {
			return err
		}
	}
	if err := g.keyring.UseKey(ring[0]); err != nil {
		return err
	}
	for _, key := range g.keyring.GetKeys() {
		if !slices.ContainsFunc(ring, func(k []byte) bool { return bytes.Equal(k, key) }) {
			if err := g.keyring.RemoveKey(key); err != nil {
				return err
			}
		}
	}
	return nil
}
