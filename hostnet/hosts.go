package hostnet

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The lines between these are the daemon's, in /etc/hosts.
const (
	hostsBegin = "# overlane begin: names on the networks that this host is attached to. The daemon writes what stands here"
	hostsEnd   = "# overlane end: names on the networks that this host is attached to"
)

// lineMark is at the end of our lines with names: by it they are known again, wherever an editor has put them.
const lineMark = "# overlane: attached"

// maxLines bounds what every program of the host reads each time that it looks for a name.
const maxLines = 4096

// HostsLine is a line of /etc/hosts.
type HostsLine struct {
	Addr  netip.Addr
	Names []string
}

// hostsFile is this host's /etc/hosts. The daemon may see another one: the service sees all of /etc as read-only, and the managed plugin
// has a root file system of its own. The first process of the host sees the right one, if it is one of this host's.
func hostsFile() string {
	const plain, ofFirst = "/etc/hosts", "/proc/1/root/etc/hosts"
	own, err1 := os.Readlink("/proc/self/ns/net")
	first, err2 := os.Readlink("/proc/1/ns/net")
	if err1 == nil && err2 == nil && own == first {
		if _, err := os.Stat(ofFirst); err == nil {
			return ofFirst
		}
	}
	return plain
}

// WriteNames has the programs of this host find these names; none: it takes back what was written. A name that the host has by itself
// stays what it is there.
func (*Host) WriteNames(lines []HostsLine) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	return writeHosts(hostsFile(), host, lines)
}

// errEdited says that somebody has written the file at the same time.
var errEdited = errors.New("somebody else writes it")

func writeHosts(path, host string, lines []HostsLine) error {
	err := errEdited
	for try := 0; errors.Is(err, errEdited) && try < 3; try++ {
		err = writeHostsOnce(path, host, lines)
	}
	if err != nil {
		return fmt.Errorf("names in %s: %w", path, err)
	}
	return nil
}

func writeHostsOnce(path, host string, lines []HostsLine) error {
	path, err := followed(path)
	if err != nil {
		return err
	}
	before, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && len(lines) == 0 {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	rest := withoutBlock(before)
	after, ours := slices.Clone(rest), block(lines, namesIn(rest, host))
	if len(ours) > 0 && len(rest) > 0 && !bytes.HasSuffix(rest, []byte("\n")) {
		after = append(after, '\n')
	}
	after = append(after, ours...)
	if bytes.Equal(before, after) {
		return nil
	}
	return replace(path, before, after)
}

// followed is the file that a symbolic link leads to, below the root that the path is seen by.
func followed(path string) (string, error) {
	root, _, seen := strings.Cut(path, "/etc/")
	if !seen {
		root = ""
	}
	for range 8 {
		to, err := os.Readlink(path)
		switch {
		case errors.Is(err, unix.EINVAL), errors.Is(err, fs.ErrNotExist): // it is no link, or there is nothing
			return path, nil
		case err != nil:
			return "", err
		case filepath.IsAbs(to):
			path = root + to
		default:
			path = filepath.Join(filepath.Dir(path), to)
		}
	}
	return "", errors.New("too many symbolic links")
}

// withoutBlock gives what others wrote: somebody may have edited around and within.
func withoutBlock(text []byte) (rest []byte) {
	for line := range bytes.Lines(text) {
		plain := bytes.TrimSpace(line)
		if !bytes.Equal(plain, []byte(hostsBegin)) && !bytes.Equal(plain, []byte(hostsEnd)) && !bytes.HasSuffix(plain, []byte(lineMark)) {
			rest = append(rest, line...)
		}
	}
	return rest
}

// namesIn are the names that the host has by itself: no container takes one.
func namesIn(text []byte, host string) map[string]bool {
	own := map[string]bool{"localhost": true, strings.ToLower(host): true}
	short, _, _ := strings.Cut(strings.ToLower(host), ".")
	own[short] = true
	for line := range strings.Lines(string(text)) {
		entry, _, _ := strings.Cut(line, "#")
		for i, name := range strings.Fields(entry) {
			if i > 0 {
				own[strings.ToLower(name)] = true
			}
		}
	}
	return own
}

func block(lines []HostsLine, own map[string]bool) []byte {
	var text []string
	for _, line := range lines {
		names := slices.DeleteFunc(slices.Clone(line.Names), func(name string) bool { return own[strings.ToLower(name)] })
		if len(names) > 0 && len(text) < maxLines {
			text = append(text, line.Addr.String()+" "+strings.Join(names, " ")+" "+lineMark+"\n")
		}
	}
	if len(text) == 0 {
		return nil
	}
	return []byte(hostsBegin + "\n" + strings.Join(text, "") + hostsEnd + "\n")
}

// replace writes a file anew: in one step, or in its place where something is mounted on it, as on a container's.
func replace(path string, before, text []byte) error {
	mounted, err := isMount(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return os.WriteFile(path, text, 0o644)
	case err != nil:
		return err
	case mounted:
		return overwrite(path, text)
	}
	fresh := filepath.Join(filepath.Dir(path), ".hosts.overlane")
	err = writeLike(fresh, path, text)
	if err == nil {
		var now []byte
		if now, err = os.ReadFile(path); err == nil && !bytes.Equal(now, before) {
			err = errEdited
		}
	}
	if err == nil {
		err = os.Rename(fresh, path)
	}
	if err == nil {
		return nil
	}
	os.Remove(fresh)
	if errors.Is(err, unix.EROFS) { // what is around it is a mount
		return overwrite(path, text)
	}
	return err
}

// isMount says whether something is mounted on a file, in the mount namespace that the path leads to. In another one than this process's a
// rename would not fail: it takes the mount away (mount_namespaces(7)).
func isMount(path string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, 0, 0, &st)
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, err
}

// overwrite writes a file in its place. Who reads it meanwhile never finds it empty.
func overwrite(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(text, 0); err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(int64(len(text))), f.Sync()); err != nil {
		return err
	}
	return f.Close()
}

// selinux is the extended attribute by which SELinux knows who may read a file.
const selinux = "security.selinux"

// writeLike writes a file with the owner, mode and label of another.
func writeLike(path, like string, text []byte) error {
	var st unix.Stat_t
	if err := unix.Stat(like, &st); err != nil {
		return err
	}
	os.Remove(path)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(text); err != nil {
		return err
	}
	label := make([]byte, 256)
	if n, err := unix.Getxattr(like, selinux, label); err == nil {
		if err := unix.Fsetxattr(int(f.Fd()), selinux, label[:n], 0); err != nil {
			return err
		}
	}
	if err := errors.Join(f.Chmod(fs.FileMode(st.Mode&0o777)), f.Chown(int(st.Uid), int(st.Gid)), f.Sync()); err != nil {
		return err
	}
	return f.Close()
}
