package main

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/overlane/overlane/datapath"
)

// metricsHandler serves what the cluster and the datapath count.
func metricsHandler(cluster prometheus.Collector, d drops) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(cluster, d)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

// drops collects the packets that were dropped, by reason.
type drops func() datapath.Stats

var dropsDesc = prometheus.NewDesc("overlane_dropped_packets_total", "Packets that were dropped, by reason.", []string{"reason"}, nil)

// Describe implements prometheus.Collector.
func (d drops) Describe(ch chan<- *prometheus.Desc) { ch <- dropsDesc }

// Collect implements prometheus.Collector.
func (d drops) Collect(ch chan<- prometheus.Metric) {
	for reason, n := range d().Drops {
		ch <- prometheus.MustNewConstMetric(dropsDesc, prometheus.CounterValue, float64(n), reason)
	}
}
