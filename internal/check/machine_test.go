package check

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/overlane/overlane/internal/testns"
)

func TestTapsComeAndGo(t *testing.T) {
	testns.Enter(t)
	says(t, taps(), OK, "/dev/net/tun")
	left, err := filepath.Glob("/sys/class/net/ovcheck*")
	if err != nil || left != nil {
		t.Errorf("%v %v is left behind", left, err)
	}
}

func TestKernelAndProcessor(t *testing.T) {
	says(t, offloads(), OK, "UDP_SEGMENT and UDP_GRO")
	says(t, xdp("eth0"), OK, "the kernel has it")
	says(t, processor(), OK, map[string]string{"amd64": "SSE4.2", "arm64": "CRC32"}[runtime.GOARCH])
}

func TestClockBeforeTheBuild(t *testing.T) {
	now := time.Now()
	says(t, clock(now, now.Add(time.Hour)), Fail, "made later", "chrony")
	if r := clock(now, time.Time{}); r.State == Fail {
		t.Errorf("%+v", r)
	}
}

func TestHugepages(t *testing.T) {
	dir := t.TempDir()
	says(t, hugepages(dir), OK, "none free", "ordinary pages")
	for size, free := range map[string]string{"2048kB": "512\n", "1048576kB": "0\n"} {
		file := filepath.Join(dir, "hugepages-"+size, "free_hugepages")
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(free), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	says(t, hugepages(dir), OK, "512 of 2048kB")
	if strings.Contains(hugepages(dir).Seen, "1048576kB") {
		t.Errorf("%+v", hugepages(dir))
	}
}
