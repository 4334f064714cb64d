//go:build lab

package lab

import (
	"fmt"
	"strings"
	"testing"
)

// What moves is shown by name: to a program once, on a terminal until somebody quits, which leaves that as it was.
func TestTop(t *testing.T) {
	c := cluster(t)
	one, two := c.Hosts[0], c.Hosts[1]
	network(t, c.Hosts[:2], "app", 20)
	start(t, one, "web", "app")
	db, dbAt := start(t, two, "db", "app")
	web := &Container{Host: one, Name: "web"}
	reach(t, web, dbAt.IPAddress)
	shell(t, one, fmt.Sprintf("docker exec -d web /usr/bin/ping -q -i 0.01 %s", dbAt.IPAddress))
	eventually(t, "the other host receives", settleTimeout, func() error {
		page := shell(t, two, "overlane top")
		for _, line := range strings.Split(page, "\n") {
			if cells := strings.Fields(line); len(cells) == 6 && cells[0] == db.Name && cells[1] == "app" && cells[2] != "0" {
				return nil
			}
		}
		return fmt.Errorf("db is not seen to receive: %s", page)
	})
	live := shell(t, one, "{ sleep 2; printf r; sleep 1; printf q; } | TERM=xterm script -qec 'stty rows 24 cols 80; stty -g >/tmp/before; overlane top; stty -g >/tmp/after' /dev/null; cmp /tmp/before /tmp/after")
	for _, want := range []string{"by total", "by received", "web", "app", "CPU", "\x1b[?1049h", "\x1b[?1049l"} {
		if !strings.Contains(live, want) {
			t.Errorf("no %q in %q", want, live)
		}
	}
	pages := strings.Split(live, "\x1b[H")
	t.Log("\n" + strings.ReplaceAll(strings.ReplaceAll(pages[len(pages)-1], "\x1b[K", ""), "\r", ""))
}
