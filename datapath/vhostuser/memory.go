package vhostuser

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/datapath/dp"
)

// mostMemory is what programs may share, in bytes, each. A file of no size to speak of can be said to be longer than this process has
// addresses.
var mostMemory = hostMemory()

func hostMemory() uint64 {
	var host unix.Sysinfo_t
	if err := unix.Sysinfo(&host); err != nil {
		return math.MaxInt64
	}
	return host.Totalram * uint64(host.Unit)
}

// setMemory maps the memory that the front-end shares, in place of what it did before.
func (s *session) setMemory(m *message) error {
	n, _, err := m.state()
	switch {
	case err != nil:
		return err
	case n == 0 || n > Regions:
		return fmt.Errorf("%d pieces of memory: want 1 to %d; start the program with --single-file-segments, or larger hugepages", n, Regions)
	case len(m.payload) < 8+32*int(n):
		return errShort
	case len(m.files) != int(n):
		return fmt.Errorf("%d files for %d pieces of memory", len(m.files), n)
	}
	s.stop()
	s.unmap()
	var total uint64
	for i := range int(n) {
		at := m.payload[8+32*i:]
		r := region{guest: native.Uint64(at), length: native.Uint64(at[8:]), user: native.Uint64(at[16:]), offset: native.Uint64(at[24:])}
		if total += r.offset + r.length; r.offset > mostMemory || r.length > mostMemory || total > mostMemory {
			return fmt.Errorf("its memory is more than the host's: want %d bytes at most together", mostMemory)
		}
		if err := r.mapFile(m.files[i]); err != nil {
			return fmt.Errorf("memory of %#x bytes at %#x of its file: %w", r.length, r.offset, err)
		}
		s.memory = append(s.memory, r)
	}
	return nil
}

func (r *region) mapFile(fd int) (err error) {
	end := r.offset + r.length
	if r.length == 0 || end < r.offset || end > math.MaxInt64 || r.guest+r.length < r.guest || r.user+r.length < r.user {
		return errors.New("its length is out of range")
	}
	r.at, err = dp.MapShared(fd, end)
	if errors.Is(err, unix.EINVAL) {
		err = errors.New("want a file of memory, such as a memfd or one on hugetlbfs, that is as long")
	}
	return err
}

func (s *session) unmap() {
	for _, r := range s.memory {
		dp.UnmapShared(r.at)
	}
	s.memory = nil
}

// at is where length bytes at an address of the front-end's own lie here.
func (s *session) at(user, length, align uint64) (uint64, error) {
	for _, r := range s.memory {
		if user < r.user || user-r.user >= r.length || length > r.length-(user-r.user) {
			continue
		}
		at := r.at + r.offset + (user - r.user)
		if at%align != 0 {
			return 0, fmt.Errorf("part of a ring at %#x: want it at a multiple of %d", user, align)
		}
		return at, nil
	}
	return 0, fmt.Errorf("part of a ring at %#x, of %d bytes: not in the memory that is shared", user, length)
}

// locate finds a ring's parts (virtio 1.2 section 2.7).
func (s *session) locate(r *ring) (at dp.VhostRing, err error) {
	size := uint64(r.size)
	at.Size = uint16(r.size)
	if at.Desc, err = s.at(r.desc, 16*size, 16); err != nil {
		return at, err
	}
	if at.Avail, err = s.at(r.avail, 6+2*size, 2); err != nil {
		return at, err
	}
	at.Used, err = s.at(r.use, 6+8*size, 4)
	return at, err
}

// usedIndex is where the ring goes on; 0 where there is none.
func (s *session) usedIndex(r *ring) uint16 {
	at, err := s.locate(r)
	if err != nil || r.size == 0 {
		return 0
	}
	return dp.VhostIndex(at)
}
