package overlay_test

import (
	"bytes"
	"strings"
	"testing"
)

// Lines of the log call networks and containers as Docker does, once it has said so.
func TestLogHasNames(t *testing.T) {
	var log bytes.Buffer
	h := newHostAs(t)
	h.logTo = &log
	h.start()
	h.network()
	h.run(epID, "10.20.0.2")
	h.NameNetwork(netID, "app")
	h.NameContainer(netID, epID, []string{"web", "alias"})
	h.NameContainer(netID, epID, []string{"web"})
	if err := h.DeleteEndpoint(netID, epID); err != nil {
		t.Fatal(err)
	}
	if err := h.DeleteNetwork(netID); err != nil {
		t.Fatal(err)
	}
	h.Close()
	line := func(message string) string {
		var found []string
		for l := range strings.Lines(log.String()) {
			if strings.Contains(l, `msg="`+message+`"`) {
				found = append(found, l)
			}
		}
		if len(found) != 1 {
			t.Fatalf("%d lines say %s:\n%s", len(found), message, log.String())
		}
		return found[0]
	}
	for message, fields := range map[string][]string{
		"network created":  {"network=" + netID[:12]},
		"endpoint created": {"network=" + netID[:12], "endpoint=" + epID[:12]},
		"container named":  {"network=app", "network_id=" + netID[:12], "endpoint=" + epID[:12], "container=web"},
		"endpoint deleted": {"network=app", "endpoint=" + epID[:12], "container=web"},
		"network deleted":  {"network=app", "network_id=" + netID[:12]},
	} {
		for _, field := range fields {
			if l := line(message); !strings.Contains(l, " "+field+" ") {
				t.Errorf("no %s in %s", field, l)
			}
		}
	}
}
