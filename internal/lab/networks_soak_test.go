//go:build lab && soak

package lab

import (
	"strings"
	"testing"
	"time"
)

// What is made on one of five hosts is on all within a second, and gone likewise.
func TestNetworkOnFiveHosts(t *testing.T) {
	c, err := Up(t.Context(), Options{Name: "lab-five", Hosts: 5})
	t.Cleanup(func() { must(t, c.Down(lasting(t))) })
	must(t, err)
	acquainted(t, c)
	for range 5 {
		for _, step := range [][2]string{{"create five --subnet 10.65.0.0/24", "is on all of its hosts"}, {"rm five", "is gone from all of its hosts"}} {
			command, done := step[0], step[1]
			began := time.Now()
			out := shell(t, c.Hosts[4], "overlane network "+command)
			if !strings.Contains(out, done) {
				t.Fatalf("overlane network %s says %s", command, out)
			}
			t.Logf("%s %v after the command was given", done, time.Since(began))
			subnetOf(t, c.Hosts, "five", strings.HasPrefix(command, "create"))
		}
	}
}
