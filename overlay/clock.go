package overlay

import (
	"time"

	"golang.org/x/sys/unix"
)

// clockJump is by how much the clock is set when a host goes on from a snapshot, at least, at once or little by little; what is done about it costs
// little where it was only set.
const clockJump = 2 * time.Second

// clockOffset is what the clock on the wall says beyond the time since the host's start. It changes when the clock is set: by hand, or because the
// host was stopped and does not know for how long. NTP brings a clock near by less than a millisecond a second.
func clockOffset() time.Duration {
	var wall, up unix.Timespec
	if unix.ClockGettime(unix.CLOCK_REALTIME, &wall) != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) != nil {
		return 0 // of Linux 2.6.39 and later neither fails
	}
	return time.Duration(wall.Nano() - up.Nano())
}
