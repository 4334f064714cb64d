package hostnet

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func line(addr string, names ...string) HostsLine { return HostsLine{netip.MustParseAddr(addr), names} }

// What others wrote stays as it is, whatever is written and taken back, and nothing of ours stays.
func TestHostsFile(t *testing.T) {
	for name, before := range map[string]string{
		"plain":           "127.0.0.1 localhost\n192.0.2.7\tintranet www # the web\n",
		"no last newline": "127.0.0.1 localhost\n192.0.2.7 intranet www",
		"empty":           "",
		"CRLF":            "127.0.0.1 localhost\r\n",
		"end edited away": "127.0.0.1 localhost\n" + hostsBegin + "\n10.20.0.9 old # overlane: attached\n192.0.2.8 later # overlane\n",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "hosts")
			write(t, path, before)
			must(t, writeHosts(path, "machine.example.com", []HostsLine{line("10.20.0.2", "db", "db.app"), line("fd00::2", "db")}))
			text := read(t, path)
			for _, want := range []string{"\n10.20.0.2 db db.app # overlane: attached\n", "\nfd00::2 db # overlane: attached\n", "# overlane begin", "\n" + hostsEnd + "\n"} {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in %q", want, text)
				}
			}
			must(t, writeHosts(path, "machine", []HostsLine{line("10.20.0.3", "web")}))
			if text := read(t, path); strings.Contains(text, "db") || strings.Count(text, "# overlane begin") != 1 {
				t.Errorf("written anew: %q", text)
			}
			must(t, writeHosts(path, "machine", nil))
			after := read(t, path)
			want := strings.ReplaceAll(strings.ReplaceAll(before, hostsBegin+"\n", ""), "10.20.0.9 old # overlane: attached\n", "")
			if strings.TrimSuffix(after, "\n") != strings.TrimSuffix(want, "\n") {
				t.Errorf("taken back: %q, want %q", after, want)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
				t.Errorf("mode %v (%v)", info.Mode(), err)
			}
		})
	}
}

// No container is called like the host, or what it has a line for.
func TestOwnNamesStay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	write(t, path, "192.0.2.7 intranet\n#192.0.2.8 unused\n")
	must(t, writeHosts(path, "machine.example.com", []HostsLine{line("10.20.0.2", "localhost", "Intranet", "machine", "MACHINE.example.com", "intranet.app"), line("10.20.0.3", "LocalHost"), line("10.20.0.4", "unused")}))
	text := read(t, path)
	if !strings.Contains(text, "10.20.0.2 intranet.app # overlane: attached\n") || strings.Contains(text, "10.20.0.3") || !strings.Contains(text, "10.20.0.4 unused") {
		t.Error(text)
	}
}

// A link is followed, also one from the root that the file is seen by.
func TestHostsFileLinked(t *testing.T) {
	for name, to := range map[string]string{"absolute": "/run/hosts", "relative": "../run/hosts"} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			must(t, os.Mkdir(filepath.Join(root, "etc"), 0o755))
			must(t, os.Mkdir(filepath.Join(root, "run"), 0o755))
			write(t, filepath.Join(root, "run/hosts"), "127.0.0.1 localhost\n")
			path := filepath.Join(root, "etc/hosts")
			must(t, os.Symlink(to, path))
			must(t, writeHosts(path, "machine", []HostsLine{line("10.20.0.2", "db")}))
			if text := read(t, filepath.Join(root, "run/hosts")); !strings.Contains(text, "10.20.0.2 db") || !strings.Contains(text, "localhost") {
				t.Error(text)
			}
			if got, err := os.Readlink(path); err != nil || got != to {
				t.Errorf("the link became %q (%v)", got, err)
			}
		})
	}
}

// A file on which something is mounted, as a container's, is written in its place.
func TestHostsFileMounted(t *testing.T) {
	dir := t.TempDir()
	path, under := filepath.Join(dir, "hosts"), filepath.Join(dir, "under")
	write(t, path, "")
	write(t, under, "127.0.0.1 localhost\n")
	mount(t, under, path)
	must(t, writeHosts(path, "machine", []HostsLine{line("10.20.0.2", "db")}))
	if text := read(t, under); !strings.Contains(text, "10.20.0.2 db # overlane: attached\n") || !strings.Contains(text, "localhost") {
		t.Error(text)
	}
	must(t, writeHosts(path, "machine", nil))
	if text := read(t, under); text != "127.0.0.1 localhost\n" {
		t.Error(text)
	}

	// The managed plugin has a mount namespace of its own, without the host's mounts.
	runtime.LockOSThread() // this one stays in the namespace of the mount
	defer runtime.UnlockOSThread()
	root := fmt.Sprintf("/proc/self/task/%d/root", unix.Gettid())
	must(t, inOwnMounts(func() error {
		if err := unix.Unmount(path, 0); err != nil {
			return err
		}
		return writeHosts(root+path, "machine", []HostsLine{line("10.20.0.3", "web")})
	}))
	if mounted, err := isMount(path); err != nil || !mounted || !strings.Contains(read(t, under), "10.20.0.3 web") {
		t.Errorf("it is mounted: %v (%v), and says %q", mounted, err, read(t, under))
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("left: %v (%v)", left, err)
	}
}

// inOwnMounts calls f in a mount namespace of its own.
func inOwnMounts(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // which ends with it
		err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o640))
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return string(text)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
