package check

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/overlane/overlane/engine"
)

// engineSocket asks Docker's engine, from which names are heard.
func engineSocket(path string) Result {
	const check = "Docker's engine"
	if path == "" {
		return Result{check, OK, "--docker-socket is none: this host's containers have no names", ""}
	}
	version, err := engine.Version(context.Background(), path)
	if err != nil {
		return Result{check, Warn, err.Error(), "start Docker, or give --docker-socket the path of its socket; a managed plugin wants /proc/1/root/run/docker.sock; where there is no Docker give none. Until then this host's containers have no names"}
	}
	seen := fmt.Sprintf("%s answers on %s", version, path)
	switch v := numbers(version); {
	case v[0] == 29 && v[1] == 0 && v[2] <= 2:
		return Result{check, Fail, seen + ": 29.0.0 to 29.0.2 crash with network drivers that are not Docker's own", "upgrade Docker to 29.0.3 or later"}
	case v[0] > 0 && (v[0] < 20 || v[0] == 20 && v[1] < 10):
		return Result{check, Warn, seen + ": overlane is tested with 20.10 and later", "upgrade Docker to 20.10 or later"}
	}
	return Result{check, OK, seen, ""}
}

// forwarding looks at what containers' way to the outside takes of the kernel. Docker's engine turns it on, but not with nftables as its firewall.
func forwarding(path string) Result {
	const check = "forwarding"
	text, err := os.ReadFile(path)
	switch {
	case err != nil:
		return Result{check, Warn, fmt.Sprintf("can't tell whether the kernel forwards packets: %v", err), "run the command where /proc is the host's"}
	case strings.TrimSpace(string(text)) == "0":
		return Result{check, Warn, "net.ipv4.ip_forward is 0: containers reach nothing outside of their networks, and nobody outside their published ports", "sysctl -w net.ipv4.ip_forward=1, and the same line in /etc/sysctl.d; with --ip-forward=false or firewall-backend=nftables Docker does not do it"}
	}
	return Result{check, OK, "the kernel forwards packets between containers and the outside", ""}
}

// numbers are major, minor and patch of a version, without what Debian or others put behind: 20.10.24+dfsg1. What is none is 0.
func numbers(version string) (v [3]int) {
	for i, part := range strings.SplitN(version, ".", len(v)) {
		end := strings.IndexFunc(part, func(r rune) bool { return r < '0' || r > '9' })
		if end >= 0 {
			part = part[:end]
		}
		v[i], _ = strconv.Atoi(part)
	}
	return v
}
