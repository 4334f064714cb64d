package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// How long what was found in all namespaces counts: looks for the taps of many containers that went together are one.
const surveyAge = time.Second

// survey is what a look at all network namespaces of the host has found.
type survey struct {
	from, at   time.Time         // its begin and its end
	namespaces map[uint64]string // see namespaces
	taps       []tapAt
	err        error // something could not be looked at: what was not found may be there
}

// tapAt is a tap, and by which path its namespace can be entered.
type tapAt struct {
	tap
	namespace uint64
	path      string
}

// findAnywhere looks for a port's tap in the namespaces of all processes and mounts. By its alias alone: a container may give
// an interface any MAC address, but does not know other containers' endpoints.
func (d *Datapath) findAnywhere(c PortConfig) (path string, err error) {
	own, err := namespaceOf("/proc/thread-self/ns/net")
	if err != nil {
		return "", err
	}
	var stray error
	for _, t := range d.surveyed(time.Time{}).taps {
		switch {
		case t.alias == c.Alias && t.namespace == own && t.name == c.Name:
			return "", ErrTapGone // Docker gave it back
		case t.alias == c.Alias:
			return t.path, nil
		case t.mac == c.MAC && !isAnothers(t.alias, c.Alias):
			stray = fmt.Errorf("interface %s in namespace %s may be it, with another alias: ip link set %s alias %s", t.name, t.path, t.name, c.Alias)
		}
	}
	if unsure := errors.Join(stray, d.survey.err); unsure != nil {
		return "", unsure
	}
	return "", ErrTapGone
}

// isAnothers says whether an alias is one of overlane's, as another is.
func isAnothers(alias, ours string) bool {
	prefix, _, _ := strings.Cut(ours, ":")
	return strings.HasPrefix(alias, prefix+":")
}

// surveyed gives a survey of this moment, or nearly so, that was begun after a given one: it tells nothing of what came to be since.
func (d *Datapath) surveyed(after time.Time) *survey {
	if time.Since(d.survey.at) > surveyAge || !d.survey.from.After(after) {
		d.survey = lookEverywhere(namespaces)
	}
	return &d.survey
}

// How often a namespace is looked for by another path when the one to it went meanwhile, with a thread that ended.
const surveyRounds = 4

// lookEverywhere looks into the namespaces that list gives.
func lookEverywhere(list func() (map[uint64]string, error)) (s survey) {
	s.from = time.Now()
	s.namespaces, s.err = list()
	left, vanished := s.namespaces, error(nil)
	for range surveyRounds {
		if left, vanished = s.look(left); vanished == nil {
			break
		}
		now, err := list()
		s.err = errors.Join(s.err, err)
		for namespace := range left {
			path, there := now[namespace]
			if !there && err == nil { // nobody keeps it any more
				delete(left, namespace)
				delete(s.namespaces, namespace)
			} else if there {
				left[namespace] = path
			}
		}
	}
	if len(left) > 0 {
		s.err = errors.Join(s.err, vanished)
	}
	s.at = time.Now()
	return s
}

// look adds the taps of namespaces, and gives those whose paths have vanished: that says nothing of a tap, and is no ErrTapGone.
func (s *survey) look(namespaces map[uint64]string) (left map[uint64]string, vanished error) {
	left = map[uint64]string{}
	for namespace, path := range namespaces {
		err := inNamespace(path, func() error {
			taps, err := listTaps()
			for _, t := range taps {
				s.taps = append(s.taps, tapAt{t, namespace, path})
			}
			return err
		})
		switch {
		case errors.Is(err, ErrTapGone):
			left[namespace] = path
			vanished = errors.Join(vanished, fmt.Errorf("namespace %s went while it was looked into", path))
		case err != nil:
			s.err = errors.Join(s.err, fmt.Errorf("look into namespace %s: %w", path, err))
		}
	}
	return left, vanished
}

// namespaces lists the network namespaces that threads are in or that are mounted in some mount namespace, but for those that only
// this process keeps: inode number to a path by which each can be entered. With the error it lists those that could be seen.
func namespaces() (map[uint64]string, error) {
	threads, err := filepath.Glob("/proc/[0-9]*/task/[0-9]*")
	if err != nil {
		return nil, err
	}
	all, mounts := map[uint64]string{}, map[uint64]bool{}
	self := fmt.Sprintf("/proc/%d/", os.Getpid())
	for _, thread := range threads {
		// One that can't be read has ended, or is of a user namespace around this one, where no container is.
		path := thread + "/ns/net"
		namespace, err := namespaceOf(path)
		if err == nil && all[namespace] == "" && !strings.HasPrefix(path, self) {
			all[namespace] = path
		}
		mount, err := namespaceOf(thread + "/ns/mnt")
		if err == nil && !mounts[mount] {
			mounts[mount] = true
			mounted(filepath.Dir(filepath.Dir(thread)), all)
		}
	}
	return all, mayLookEverywhere()
}

// mayLookEverywhere says why other processes' namespaces are not to be seen: they are with CAP_SYS_PTRACE (namespaces(7)).
func mayLookEverywhere() error {
	var caps [2]unix.CapUserData
	err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &caps[0])
	if err == nil && caps[0].Effective&(1<<unix.CAP_SYS_PTRACE) == 0 {
		err = errors.New("give the daemon CAP_SYS_PTRACE")
	}
	if err != nil {
		return fmt.Errorf("other processes' network namespaces are not to be seen, in one of which the interface may be: %w", err)
	}
	return nil
}

// mounted adds the network namespaces that are mounted where a process sees them: mountinfo's root names each (proc(5)).
func mounted(process string, all map[uint64]string) {
	pid, _ := strconv.Atoi(filepath.Base(process))
	infos, err := procfs.GetProcMounts(pid)
	if err != nil {
		return // it ended
	}
	for _, m := range infos {
		if m.FSType != "nsfs" || !strings.HasPrefix(m.Root, "net:") {
			continue
		}
		if namespace, err := inodeOf(m.Root); err == nil && all[namespace] == "" {
			all[namespace] = process + "/root" + m.MountPoint
		}
	}
}

// inodeAt is the inode number of the namespace at a path; that of another file if none is mounted there.
func inodeAt(path string) (uint64, error) {
	var at unix.Stat_t
	err := unix.Stat(path, &at)
	return at.Ino, err
}

// isNamespace says whether a namespace is mounted at a path.
func isNamespace(path string) (bool, error) {
	var fs unix.Statfs_t
	err := unix.Statfs(path, &fs)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return fs.Type == unix.NSFS_MAGIC, err
}

// namespaceOf is the inode number of a namespace of /proc's.
func namespaceOf(link string) (uint64, error) {
	name, err := os.Readlink(link)
	if err != nil {
		return 0, err
	}
	return inodeOf(name)
}

// inodeOf reads a namespace's name, such as net:[4026531840] (namespaces(7)).
func inodeOf(name string) (uint64, error) {
	_, number, _ := strings.Cut(strings.TrimSuffix(name, "]"), ":[")
	return strconv.ParseUint(number, 10, 64)
}
