package main

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/names"
	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/overlay/ipam"
)

// scraped is a page of metrics.
func scraped(t *testing.T, query string) string {
	t.Helper()
	cluster := prometheus.NewGauge(prometheus.GaugeOpts{Name: "overlane_members", Help: "A cluster's."})
	cluster.Set(2)
	answer := httptest.NewRecorder()
	metricsOfEverything(cluster).ServeHTTP(answer, httptest.NewRequest("GET", "/metrics"+query, nil))
	return answer.Body.String()
}

// metricsOfEverything are served by a host that has something of all.
func metricsOfEverything(cluster prometheus.Collector) http.Handler {
	stats := func() datapath.Stats {
		return datapath.Stats{
			Drops:      map[string]uint64{"vtep_unknown": 3, "malformed": 0},
			Tables:     []datapath.TableStats{{Name: "neighbours", Entries: 12, Capacity: 400}},
			Ports:      []datapath.PortStats{{Name: "ov1", Kind: datapath.KindVhost, Connected: true, Trusted: 9}, {Name: "ov2", Kind: datapath.KindMemif}},
			Workers:    []int{3},
			Stuck:      []int{3},
			Ran:        []time.Duration{1500 * time.Millisecond},
			QueueFill:  []float64{0.25},
			Rests:      []uint64{11},
			Bursts:     []datapath.WorkerBursts{{Ports: datapath.Bursts{Packets: 35, Sizes: [7]uint64{2, 0, 1, 0, 1}}}},
			MbufsInUse: 7,
			MbufsTotal: 70,
		}
	}
	seen := func(datapath.Stats) ([]overlay.EndpointTraffic, []overlay.HostTraffic) {
		one := datapath.Traffic{RxPackets: 1, RxBytes: 100, TxPackets: 2, TxBytes: 200}
		return []overlay.EndpointTraffic{{Network: "app", Endpoint: "web", Traffic: one}, {Network: "app", Endpoint: "db", Traffic: one, Drops: map[string]uint64{"spoofed_ip": 2}}, {Network: "app", Endpoint: "db", Traffic: one, Drops: map[string]uint64{"spoofed_ip": 3}}},
			[]overlay.HostTraffic{{Host: "blue", VTEP: netip.MustParseAddrPort("192.0.2.2:4789"), Traffic: one}}
	}
	sums := func(datapath.Stats) map[string]datapath.Traffic {
		return map[string]datapath.Traffic{"app": {RxBytes: 700}}
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
	usage := func() []ipam.Usage {
		return []ipam.Usage{{Key: "network=app", Subnet: netip.MustParsePrefix("10.20.0.0/16"), Used: 3, Free: 1021}}
	}
	return metricsHandler(traffic{stats: stats, named: seen, networks: sums}, cluster, pipeline(stats), queries(named), keyAges(ages), addressUsage(usage))
}

func TestMetricsAreServed(t *testing.T) {
	page := scraped(t, "")
	for _, line := range []string{"overlane_members 2", `overlane_dropped_packets_total{reason="vtep_unknown"} 3`, `overlane_dropped_packets_total{reason="malformed"} 0`,
		`overlane_table_entries{table="neighbours"} 12`, `overlane_table_capacity{table="neighbours"} 400`,
		`overlane_dns_queries_total{result="answered"} 5`, "overlane_dns_containers 4",
		`overlane_endpoint_receive_packets_total{endpoint="web",network="app"} 1`, `overlane_endpoint_receive_bytes_total{endpoint="web",network="app"} 100`,
		`overlane_endpoint_transmit_packets_total{endpoint="web",network="app"} 2`, `overlane_endpoint_transmit_bytes_total{endpoint="db",network="app"} 400`,
		`overlane_network_receive_bytes_total{network="app"} 700`, `overlane_host_transmit_packets_total{host="blue",vtep="192.0.2.2:4789"} 2`,
		`overlane_endpoint_dropped_packets_total{endpoint="db",network="app",reason="spoofed_ip"} 5`,
		`overlane_worker_queue_ratio{cpu="3",worker="0"} 0.25`, `overlane_worker_rests_total{cpu="3",worker="0"} 11`, `overlane_worker_stuck{cpu="3",worker="0"} 1`,
		`overlane_worker_burst_packets_bucket{cpu="3",from="containers",worker="0",le="2"} 2`, `overlane_worker_burst_packets_bucket{cpu="3",from="containers",worker="0",le="16"} 4`,
		`overlane_worker_burst_packets_sum{cpu="3",from="containers",worker="0"} 35`, `overlane_worker_burst_packets_count{cpu="3",from="underlay",worker="0"} 0`,
		`overlane_worker_cpu_seconds_total{cpu="3",worker="0"} 1.5`, "overlane_packet_buffers 70", "overlane_packet_buffers_used 7",
		`overlane_encryption_key_age_seconds{host="blue",vtep="192.0.2.2:4789"} 60`, `overlane_encryption_unwell{host="blue",vtep="192.0.2.2:4789"} 0`,
		`overlane_encryption_unwell{host="red",vtep="192.0.2.3:4789"} 1`,
		`overlane_addresses_used{pool="network=app",subnet="10.20.0.0/16"} 3`, `overlane_addresses_free{pool="network=app",subnet="10.20.0.0/16"} 1021`} {
		if !strings.Contains(page, line+"\n") {
			t.Errorf("no line %s in\n%s", line, page)
		}
	}
	few := scraped(t, "?endpoints=false")
	if strings.Contains(few, "overlane_endpoint_") || !strings.Contains(few, `overlane_network_receive_bytes_total{network="app"} 700`) {
		t.Errorf("without endpoints:\n%s", few)
	}
	if said := scraped(t, "?endpoints=some"); !strings.Contains(said, "want true or false") {
		t.Errorf("a query that means nothing is answered by\n%s", said)
	}
}

// A client that does not finish what it sends does not keep the daemon from ending.
func TestMetricsEndBesideAStalledClient(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan struct{})
	failed := make(chan error, 1)
	stop := serveMetrics(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		close(answered)
	}), l, failed)
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Write([]byte("GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	<-answered
	ended := make(chan struct{})
	go func() { stop(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the daemon waits for a client that sends nothing more")
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}
