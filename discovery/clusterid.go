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

	"github.com/overlane/overlane/internal/wholefile"
)

// clusterID names a cluster for as long as it lives. The zero value stands for
// none: the node has joined nobody, and has nothing of its own yet.
type clusterID [16]byte

func (id clusterID) String() string {
	if id == (clusterID{}) {
		return ""
	}
	return hex.EncodeToString(id[:])
}

// claim is what a node says of its cluster. One of the version before says
// nothing, and is then not known.
type claim struct {
	known   bool
	cluster clusterID
}

// clusterFile lies in the data directory once the node belongs to a cluster.
const clusterFile = "cluster.json"

type clusterJSON struct {
	Cluster string `json:"cluster"`
}

// openCluster reads the cluster's identity in dir, if there is one.
func openCluster(dir string) (clusterID, error) {
	path := filepath.Join(dir, clusterFile)
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return clusterID{}, nil
	case err != nil:
		return clusterID{}, err
	}
	var stored clusterJSON
	var id nodeID // of the same form
	if err = json.Unmarshal(text, &stored); err == nil {
		id, err = parseNodeID(stored.Cluster)
	}
	if err == nil && id == (nodeID{}) {
		err = errors.New("the identity is zero")
	}
	if err != nil {
		return clusterID{}, fmt.Errorf("cluster file %s is damaged: %w; copy it from another host of the cluster", path, err)
	}
	return clusterID(id), nil
}

// saveCluster puts the cluster's identity on disk; the zero one is none.
func saveCluster(dir string, id clusterID) error {
	path := filepath.Join(dir, clusterFile)
	if id == (clusterID{}) {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	text, err := json.Marshal(clusterJSON{id.String()})
	if err != nil {
		return err
	}
	return wholefile.Replace(path, append(text, '\n'))
}

func newClusterID() (id clusterID, err error) {
	_, err = rand.Read(id[:])
	return id, err
}
