package main

import (
	"strings"
	"testing"
)

func TestWithdraw(t *testing.T) {
	socket := daemon(t, busy(t))
	for args, want := range map[string]string{
		"--down":       "no host is down\n",
		"host2":        `node "host2": no host that is down is called so: none is down`,
		"":             "want the names or IDs of hosts, or --down for all that are down",
		"--down host2": "want the names or IDs of hosts, or --down for all that are down",
	} {
		said, err := command(append([]string{"withdraw", "--control-socket", socket}, strings.Fields(args)...)...)
		if err != nil {
			said = err.Error()
		}
		if said != want {
			t.Errorf("overlane withdraw %s says %q, want %q", args, said, want)
		}
	}
}
