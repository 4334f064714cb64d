package overlay

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// HasTap says whether the network namespace at a path has an interface with an alias. A namespace that is gone has none;
// Docker leaves the file at its path for a while.
func HasTap(path, alias string) (bool, error) {
	ns, err := netns.GetFromPath(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open namespace %s: %w", path, err)
	}
	defer ns.Close()
	var kind unix.Statfs_t
	if err := unix.Fstatfs(int(ns), &kind); err != nil {
		return false, fmt.Errorf("look at namespace %s: %w", path, err)
	}
	if kind.Type != unix.NSFS_MAGIC {
		return false, nil
	}
	handle, err := netlink.NewHandleAt(ns)
	if err != nil {
		return false, fmt.Errorf("look into namespace %s: %w", path, err)
	}
	defer handle.Close()
	links, err := handle.LinkList()
	if err != nil {
		return false, fmt.Errorf("list the interfaces in %s: %w", path, err)
	}
	for _, link := range links {
		if link.Attrs().Alias == alias {
			return true, nil
		}
	}
	return false, nil
}
