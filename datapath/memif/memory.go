package memif

import (
	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/datapath/dp"
)

// memory is what a server maps: two rings, and the buffers of their slots. Each connection has its own, so that nobody sees what was
// another's.
type memory struct {
	file   int // a memfd, or none
	length uint64
	at     uint64 // where it is mapped here; 0: nowhere
	log2   uint   // of a ring's slots
}

func (m *memory) make(log2 uint) (err error) {
	m.log2, m.length = log2, dp.MemifLen(log2)
	if m.file, err = unix.MemfdCreate("overlane memif", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING); err != nil {
		m.file = none
		return err
	}
	if err = unix.Ftruncate(m.file, int64(m.length)); err != nil {
		return err
	}
	// Nobody can cut it short, or make it longer.
	if _, err = unix.FcntlInt(uintptr(m.file), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return err
	}
	if m.at, err = dp.MapShared(m.file, m.length); err != nil {
		return err
	}
	dp.FormatMemif(m.at, log2)
	return nil
}

// free gives the pages back, also where the server keeps them mapped: they were charged to this process. What it touches from then on is
// charged to the server.
func (m *memory) free() {
	if m.file == none {
		return
	}
	unix.Fallocate(m.file, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, int64(m.length))
	if m.at != 0 {
		dp.UnmapShared(m.at)
	}
	unix.Close(m.file)
}
