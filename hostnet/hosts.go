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
	hostsEnd   = "# overlane end"
)

// By these our lines are known again: how the first begins, and how those with names end.
const (
	beginMark = "# overlane begin"
	lineMark  = "# overlane"
)

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

func writeHosts(path, host string, lines []HostsLine) error {
	before, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && len(lines) == 0 {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("names: %w", err)
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
	if err := replace(path, after); err != nil {
		return fmt.Errorf("names: %w", err)
	}
	return nil
}

// withoutBlock gives what others wrote: somebody may have edited around and within.
func withoutBlock(text []byte) (rest []byte) {
	for line := range bytes.Lines(text) {
		plain := bytes.TrimSpace(line)
		if !bytes.HasPrefix(plain, []byte(beginMark)) && !bytes.Equal(plain, []byte(hostsEnd)) && !bytes.HasSuffix(plain, []byte(lineMark)) {
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
func replace(path string, text []byte) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return os.WriteFile(path, text, 0o644)
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return os.WriteFile(path, text, 0o644) // through the link
	}
	fresh := filepath.Join(filepath.Dir(path), ".hosts.overlane")
	err = writeLike(fresh, path, text)
	if err == nil {
		err = os.Rename(fresh, path)
	}
	if err == nil {
		return nil
	}
	os.Remove(fresh)
	if inPlace := overwrite(path, text); inPlace != nil {
		return errors.Join(err, inPlace)
	}
	return nil
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
