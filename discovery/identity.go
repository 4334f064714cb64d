package discovery

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/overlane/overlane/internal/wholefile"
)

// nodeID names a node for life, across restarts and address changes.
type nodeID [16]byte

func (id nodeID) String() string { return hex.EncodeToString(id[:]) }

func parseNodeID(s string) (nodeID, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(nodeID{}) {
		return nodeID{}, fmt.Errorf("node ID %q is not 32 hexadecimal digits", s)
	}
	return nodeID(b), nil
}

// identityFile lies in the data directory.
const identityFile = "identity.json"

// identity is what a node must not forget: who it is, and that its next
// incarnation is above every earlier one.
type identity struct {
	dir         string
	id          nodeID
	incarnation uint64
	restarted   bool   // an earlier incarnation existed
	twin        string // a node that has the same identity, and began earlier
}

type identityJSON struct {
	ID          string `json:"id"`
	Incarnation uint64 `json:"incarnation"`
	CopyOf      string `json:"copy_of,omitempty"` // a node that was found to have the same identity: this one must not run
}

// openIdentity reads the identity in dir, or makes one, and begins a new
// incarnation. It is on disk when openIdentity returns.
func openIdentity(dir string, now time.Time) (*identity, error) {
	i := &identity{dir: dir}
	path := filepath.Join(dir, identityFile)
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := rand.Read(i.id[:]); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	default:
		var stored identityJSON
		err := json.Unmarshal(text, &stored)
		if err == nil {
			i.id, err = parseNodeID(stored.ID)
		}
		if err != nil {
			return nil, fmt.Errorf("identity file %s is damaged: %w; remove it to start as a new node", path, err)
		}
		if stored.Incarnation >= maxIncarnation {
			return nil, fmt.Errorf("identity file %s: incarnation %d is not below %d; remove the file to start as a new node",
				path, stored.Incarnation, uint64(maxIncarnation))
		}
		if stored.CopyOf != "" {
			return nil, &TwinError{stored.CopyOf, dir}
		}
		i.incarnation = stored.Incarnation
		i.restarted = true
	}
	return i, i.advance(max(i.incarnation+1, uint64(now.UnixMilli())))
}

// advance puts a higher incarnation on disk.
func (i *identity) advance(incarnation uint64) error {
	text, err := json.Marshal(identityJSON{i.id.String(), incarnation, i.twin})
	if err != nil {
		return err
	}
	if err := wholefile.Replace(filepath.Join(i.dir, identityFile), append(text, '\n')); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	i.incarnation = incarnation
	return nil
}

// fence keeps this identity from being used in this directory again.
func (i *identity) fence(twin string) error {
	i.twin = twin
	return i.advance(i.incarnation)
}
