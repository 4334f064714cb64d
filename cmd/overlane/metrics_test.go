package main

import (
	"net/http/httptest"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/names"
	"github.com/overlane/overlane/overlay"
)

// scraped is a page of metrics, as a host with something of everything serves it.
func scraped(t *testing.T, query string) string {
	t.Helper()
	cluster := prometheus.NewGauge(prometheus.GaugeOpts{Name: "overlane_members", Help: "A cluster's."})
	cluster.Set(2)
	stats := func() datapath.Stats {
		return datapath.Stats{
			Drops:      map[string]uint64{"vtep_unknown": 3, "malformed": 0},
			Tables:     []datapath.TableStats{{Name: "neighbours", Entries: 12, Capacity: 400}},
			Workers:    []int{3},
			Ran:        []time.Duration{1500 * time.Millisecond},
			MbufsInUse: 7,
			MbufsTotal: 70,
		}
	}
	seen := func(datapath.Stats) ([]overlay.EndpointTraffic, []overlay.HostTraffic) {
		one := datapath.Traffic{RxPackets: 1, RxBytes: 100, TxPackets: 2, TxBytes: 200}
		return []overlay.EndpointTraffic{{Network: "app", Endpoint: "web", Traffic: one}, {Network: "app", Endpoint: "db", Traffic: one}, {Network: "app", Endpoint: "db", Traffic: one}},
			[]overlay.HostTraffic{{Host: "blue", VTEP: netip.MustParseAddrPort("192.0.2.2:4789"), Traffic: one}}
	}
	named := func() overlay.NamesStatus {
		return overlay.NamesStatus{Status: names.Status{Containers: 4, Queries: map[string]uint64{"answered": 5}}}
	}
	ages := func() []overlay.EncryptionStatus {
		return []overlay.EncryptionStatus{
			{Host: "blue", VTEP: netip.MustParseAddrPort("192.0.2.2:4789"), Cipher: "aes-128-gcm", KeyAge: 60},
			{Host: "red", VTEP: netip.MustParseAddrPort("192.0.2.3:4789"), Health: overlay.Health{Reason: "no key yet"}},
		}
	}
	answer := httptest.NewRecorder()
	metricsHandler(traffic{stats: stats, named: seen}, cluster, pipeline(stats), queries(named), keyAges(ages)).ServeHTTP(answer, httptest.NewRequest("GET", "/metrics"+query, nil))
	return answer.Body.String()
}

func TestMetricsAreServed(t *testing.T) {
	page := scraped(t, "")
	for _, line := range []string{"overlane_members 2", `overlane_dropped_packets_total{reason="vtep_unknown"} 3`, `overlane_dropped_packets_total{reason="malformed"} 0`,
		`overlane_table_entries{table="neighbours"} 12`, `overlane_table_capacity{table="neighbours"} 400`,
		`overlane_dns_queries_total{result="answered"} 5`, "overlane_dns_containers 4",
		`overlane_endpoint_receive_packets_total{endpoint="web",network="app"} 1`, `overlane_endpoint_receive_bytes_total{endpoint="web",network="app"} 100`,
		`overlane_endpoint_transmit_packets_total{endpoint="web",network="app"} 2`, `overlane_endpoint_transmit_bytes_total{endpoint="db",network="app"} 400`,
		`overlane_network_receive_bytes_total{network="app"} 300`, `overlane_host_transmit_packets_total{host="blue",vtep="192.0.2.2:4789"} 2`,
		`overlane_worker_cpu_seconds_total{cpu="3",worker="0"} 1.5`, "overlane_packet_buffers 70", "overlane_packet_buffers_used 7",
		`overlane_encryption_key_age_seconds{host="blue",vtep="192.0.2.2:4789"} 60`, `overlane_encryption_unwell{host="blue",vtep="192.0.2.2:4789"} 0`,
		`overlane_encryption_unwell{host="red",vtep="192.0.2.3:4789"} 1`} {
		if !strings.Contains(page, line+"\n") {
			t.Errorf("no line %s in\n%s", line, page)
		}
	}
	few := scraped(t, "?endpoints=false")
	if strings.Contains(few, "overlane_endpoint_") || !strings.Contains(few, `overlane_network_receive_bytes_total{network="app"} 300`) {
		t.Errorf("without endpoints:\n%s", few)
	}
	if said := scraped(t, "?endpoints=some"); !strings.Contains(said, "want true or false") {
		t.Errorf("a query that means nothing is answered by\n%s", said)
	}
}

// What alerts look at is there.
func TestAlertsUseWhatIsServed(t *testing.T) {
	text, err := os.ReadFile("../../contrib/monitoring/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	used := regexp.MustCompile(`overlane_[a-z_]+`).FindAllString(string(text), -1)
	for _, name := range used {
		if !strings.Contains(string(docs), "`"+name) {
			t.Errorf("docs/operations.md has no metric %s", name)
		}
	}
	for _, reasons := range regexp.MustCompile(`reason=~"([a-z_|]+)"`).FindAllStringSubmatch(string(text), -1) {
		for reason := range strings.SplitSeq(reasons[1], "|") {
			if datapath.DropReason(reason) == "" {
				t.Errorf("no drop is called %s", reason)
			}
		}
	}
	if len(used) < 8 {
		t.Errorf("only %v are used", used)
	}
}
