package check

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hugepages are of use to a DPDK device alone, and then not needed.
func hugepages(dir string) Result {
	files, _ := filepath.Glob(dir + "/hugepages-*/free_hugepages") // the pattern is right
	var sizes []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if free := strings.TrimSpace(string(text)); err == nil && free != "0" {
			size := strings.TrimPrefix(filepath.Base(filepath.Dir(file)), "hugepages-")
			sizes = append(sizes, fmt.Sprintf("%s of %s", free, size))
		}
	}
	if sizes == nil {
		return Result{"hugepages", OK, "none free: packet buffers lie on ordinary pages", ""}
	}
	return Result{"hugepages", OK, "free: " + strings.Join(sizes, ", "), ""}
}

// clock asks the kernel whether something keeps its time right. Hosts compare no clocks, but each waits for days by its own
// before it reclaims another's addresses.
func clock(now, built time.Time) Result {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	switch {
	case now.Before(built):
		return Result{"clock", Fail, fmt.Sprintf("it says %s, and this program was made later", now.UTC().Format(time.RFC3339)), "install chrony, or `timedatectl set-ntp true`"}
	case err != nil:
		return Result{"clock", Warn, fmt.Sprintf("the kernel does not say whether it is right: %v", err), "run the command as root"}
	case state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0:
		return Result{"clock", Warn, "nothing keeps it right", "install chrony, or `timedatectl set-ntp true`"}
	}
	return Result{"clock", OK, fmt.Sprintf("kept right to %v", time.Duration(t.Maxerror)*time.Microsecond), ""}
}
