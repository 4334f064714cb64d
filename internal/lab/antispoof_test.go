//go:build lab

package lab

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// What a container sends to another host's VTEP leaves with its host's address, by Docker's bridge for egress, and does not get there.
func TestAntispoof(t *testing.T) {
	c := cluster(t)
	one, two := c.Hosts[0], c.Hosts[1]
	network(t, c.Hosts, "app", 20)
	box, _ := start(t, one, "box", "app")
	const length = 20 + 8 + 12 + 14 + 4 // of the IP packets below, each a query for a name of 12 bytes, and of nobody else's
	rule := fmt.Sprintf("PREROUTING -s %s -p udp -m length --length %d", one.Addr, length)
	shell(t, two, "iptables -t raw -A "+rule)
	defer shell(t, two, "iptables -t raw -D "+rule)
	arrived := func() string {
		return strings.TrimSpace(shell(t, two, fmt.Sprintf("iptables -t raw -nvxL PREROUTING | awk '/length %d/ {print $1}'", length)))
	}
	send := func(port int) string {
		return fmt.Sprintf("timeout 1 nslookup -type=a -port=%d forged-vxlan %s || true", port, two.Addr)
	}
	forge := func() string {
		_, err := box.Exec(t.Context(), "sh", "-c", send(4789))
		must(t, err)
		return arrived()
	}
	// The rules name a host two seconds after it is known, and these may have met a moment ago.
	before := ""
	eventually(t, "nothing of what a container forges arrives", settleTimeout, func() error {
		if now := forge(); now != before {
			before = now
			return fmt.Errorf("%s packets", now)
		}
		return nil
	})
	if got := forge(); got != before {
		t.Errorf("%s packets of what a container forged have arrived, after %s at first", got, before)
	}
	_, err := box.Exec(t.Context(), "sh", "-c", send(5000))
	must(t, err)
	eventually(t, "what goes to another port arrives", settleTimeout, func() error {
		if got := arrived(); got == before {
			return errors.New("none has")
		}
		return nil
	})
}
