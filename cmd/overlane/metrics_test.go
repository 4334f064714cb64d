package main

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/names"
	"github.com/overlane/overlane/overlay"
)

func TestMetricsAreServed(t *testing.T) {
	cluster := prometheus.NewGauge(prometheus.GaugeOpts{Name: "overlane_members", Help: "A cluster's."})
	cluster.Set(2)
	stats := func() datapath.Stats {
		return datapath.Stats{
			Drops:  map[string]uint64{"vtep_unknown": 3, "malformed": 0},
			Tables: []datapath.TableStats{{Name: "neighbours", Entries: 12, Capacity: 400}},
		}
	}
	named := func() overlay.NamesStatus {
		return overlay.NamesStatus{Status: names.Status{Containers: 4, Queries: map[string]uint64{"answered": 5}}}
	}
	answer := httptest.NewRecorder()
	metricsHandler(cluster, stats, named).ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range []string{"overlane_members 2", `overlane_dropped_packets_total{reason="vtep_unknown"} 3`, `overlane_dropped_packets_total{reason="malformed"} 0`,
		`overlane_table_entries{table="neighbours"} 12`, `overlane_table_capacity{table="neighbours"} 400`,
		`overlane_dns_queries_total{result="answered"} 5`, "overlane_dns_containers 4"} {
		if !strings.Contains(answer.Body.String(), line+"\n") {
			t.Errorf("no line %s in\n%s", line, answer.Body)
		}
	}
}
