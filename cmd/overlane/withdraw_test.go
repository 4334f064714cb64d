package main

import (
	"strings"
	"testing"
)

// Hosts are named, or all that are down are meant.
func TestHostsThatAreDown(t *testing.T) {
	socket := daemon(t, busy(t))
	for args, want := range map[string]string{
		"withdraw --down":           "no host is down\n",
		"withdraw host2":            `node "host2": no host that is down is called so: none is down`,
		"withdraw":                  "want the names or IDs of hosts, or --down for all that are down",
		"withdraw --down host2":     "want the names or IDs of hosts, or --down for all that are down",
		"ipam reclaim --down":       "no host is down that has addresses\n",
		"ipam reclaim host2":        `node "host2": owns no addresses: those that do are none`,
		`withdraw ""`:               "want the names or IDs of hosts, or --down for all that are down",
		`ipam reclaim "" host2`:     "want the names or IDs of hosts, or --down for all that are down",
		"ipam reclaim":              "want the names or IDs of hosts, or --down for all that are down",
		"ipam reclaim --down host2": "want the names or IDs of hosts, or --down for all that are down",
	} {
		words := strings.Fields(args)
		for i, word := range words {
			words[i] = strings.ReplaceAll(word, `""`, "") // as a shell does
		}
		said, err := command(append(words, "--control-socket", socket)...)
		if err != nil {
			said = err.Error()
		}
		if said != want {
			t.Errorf("overlane %s says %q, want %q", args, said, want)
		}
	}
}
