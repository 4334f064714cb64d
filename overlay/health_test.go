package overlay_test

import (
	"slices"
	"testing"
)

func TestRecordsOfAllHostsAndTheirHealth(t *testing.T) {
	h := newHost(t)
	h.network()
	h.run(epID, "10.20.0.2")
	h.cluster.Announce(rival("02:42:0a:14:00:09", "10.20.0.2", 3, false))
	claimed := "10.20.0.2 is claimed by host1/eeeeeeeeeeee and host2/dddddddddddd"
	records := h.Records()
	var hosts []string
	for _, r := range records {
		hosts = append(hosts, r.Host)
		if r.Reason != claimed || r.Advice == "" {
			t.Errorf("%+v", r)
		}
	}
	if !slices.Equal(hosts, []string{"host2", "host1"}) {
		t.Errorf("records of %v", hosts)
	}

	h.cluster.Announce(rival("02:42:0a:14:00:09", "10.20.0.2", 3, true))
	for _, r := range h.Records() {
		if r.Hidden != (r.Reason == "host host2 is alive") {
			t.Errorf("%+v", r)
		}
	}
}
