package main

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// machine is what every crossing between kernel and process costs here. A frame of a container makes some of them, a frame of
// Docker's overlay none: on a machine where they are dear, the ratios are smaller.
type machine struct {
	syscallNs float64 // a system call that does nothing
	wakeUs    float64 // to wake a thread that sleeps, until it runs
}

func measureMachine() (m machine, err error) {
	const calls, wakes = 200_000, 20_000
	began := time.Now()
	for range calls {
		unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
	}
	m.syscallNs = float64(time.Since(began).Nanoseconds()) / calls
	round, err := pingPong(wakes)
	m.wakeUs = float64(round.Nanoseconds()) / 2 / 1000
	return m, err
}

// pingPong is the time of a round between two threads that wake each other by a byte through a pipe.
func pingPong(rounds int) (time.Duration, error) {
	var there, back [2]int
	for _, pipe := range []*[2]int{&there, &back} {
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			return 0, err
		}
		defer unix.Close(pipe[0])
		defer unix.Close(pipe[1])
	}
	done := make(chan struct{})
	pass := func(in, out int) {
		var b [1]byte
		unix.Read(in, b[:])
		unix.Write(out, b[:])
	}
	go func() {
		defer close(done)
		runtime.LockOSThread()
		for range rounds {
			pass(there[0], back[1])
		}
	}()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := time.Now()
	for range rounds {
		unix.Write(there[1], []byte{0})
		unix.Read(back[0], make([]byte, 1))
	}
	took := time.Since(began)
	<-done
	return took / time.Duration(rounds), nil
}
