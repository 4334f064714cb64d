package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"golang.org/x/sys/unix"
)

// NativeDir is where programs of containers make their sockets, each in a directory of its own.
const NativeDir = "/run/docker/overlane"

// Native says that a port is no tap but vhost-user (QEMU's docs/interop/vhost-user.rst) or memif, spoken by a container's DPDK program: it
// makes a socket in a directory that the container has mounted, and the datapath connects to it, again and again.
type Native struct {
	Kind string // KindVhost or KindMemif
	Name string // of the directory below NativeDir
	UID  int    // of the directory: who makes the socket, seen from the host
	GID  int
}

// nativeName can't lead elsewhere.
var nativeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$`)

// maxID is the largest user or group that is one: (uid_t)-1 is none.
const maxID = 1<<32 - 2

// Check says what is wrong with it.
func (n *Native) Check() error {
	if _, known := nativeKinds[n.Kind]; !known {
		return fmt.Errorf("kind of port %q: want %s or %s", n.Kind, KindVhost, KindMemif)
	}
	if !nativeName.MatchString(n.Name) {
		return fmt.Errorf("socket directory %q: want 1 to 63 letters, digits, '_', '.' or '-', the first a letter or digit", n.Name)
	}
	if n.UID < 0 || n.UID > maxID || n.GID < 0 || n.GID > maxID {
		return fmt.Errorf("owner %d:%d: want numbers from 0 to %d", n.UID, n.GID, maxID)
	}
	return nil
}

// openNativeDir makes a port's directory, which nobody but root and its owner may enter. One that is there is taken over: a
// container may have it mounted.
func openNativeDir(root string, n *Native) (dir *os.File, err error) {
	if err := os.MkdirAll(root, 0o711); err != nil {
		return nil, err
	}
	parent, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if err := unix.Mkdirat(int(parent.Fd()), n.Name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make %s: %w", filepath.Join(root, n.Name), err)
	}
	fd, err := unix.Openat(int(parent.Fd()), n.Name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open directory %s: %w", filepath.Join(root, n.Name), err)
	}
	// Root's first: who owns a directory may change its mode, and others only with CAP_FOWNER.
	if err = unix.Fchown(fd, 0, 0); err == nil {
		err = errors.Join(unix.Fchmod(fd, 0o700), unix.Fchown(fd, n.UID, n.GID))
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("give directory %s to user %d, group %d: %w", filepath.Join(root, n.Name), n.UID, n.GID, err)
	}
	return os.NewFile(uintptr(fd), n.Name), nil
}

// connectTo connects a socket of a type to that in the directory, and gives it. What lies there is the container's: a link is not
// followed, and nothing that is no socket is opened. It does not wait.
func (k nativeKind) connectTo(dir *os.File, typ int) (*os.File, error) {
	at, err := unix.Openat(int(dir.Fd()), k.socket, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, fmt.Errorf("%s is no socket", k.socket)
	}
	fd, err := unix.Socket(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), k.socket)
	// The path of what was looked at, whatever has the name by now.
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(at)}); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// dial connects to the program; fs.ErrNotExist, or ECONNREFUSED where nobody listens on the socket any more.
func (k nativeKind) dial(dir *os.File) (*net.UnixConn, error) {
	file, err := k.connectTo(dir, k.typ)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// clear removes a socket that nobody has any more: a program that was killed has left it, and the next could not make it. Nobody's is one
// that refuses a datagram socket, too: a program would see a connection end at once, which net_memif does not survive.
func (k nativeKind) clear(dir *os.File) error {
	file, err := k.connectTo(dir, unix.SOCK_DGRAM)
	if err == nil {
		return file.Close()
	}
	if errors.Is(err, unix.ECONNREFUSED) {
		return unix.Unlinkat(int(dir.Fd()), k.socket, 0)
	}
	return nil
}
