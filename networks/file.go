package networks

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/overlane/overlane/internal/wholefile"
)

const fileName = "networks.json"

// kept is what a host remembers.
type kept struct {
	Definitions []Definition `json:"definitions"`
	// By which definition networks of the engine's were made that have no label, those of `docker network create`: Docker's NetworkID to
	// its identity.
	Instances map[string]string `json:"instances"`
}

// load reads what is remembered. Of a file that is damaged nothing is: the other hosts know it.
func load(dir string) (k kept, err error) {
	path := filepath.Join(dir, fileName)
	k.Instances = map[string]string{}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &k)
	}
	if err != nil {
		return kept{Instances: map[string]string{}}, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

func (k kept) save(dir string) error {
	text, err := json.Marshal(k)
	if err != nil {
		return err
	}
	return wholefile.Replace(filepath.Join(dir, fileName), append(text, '\n'))
}
