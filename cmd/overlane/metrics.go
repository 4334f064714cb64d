package main

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/overlay"
)

// metricsHandler serves what others count, and the traffic, of which each container has series unless the query is endpoints=false.
func metricsHandler(t traffic, others ...prometheus.Collector) http.Handler {
	serve := func(endpoints bool) http.Handler {
		t.endpoints = endpoints
		registry := prometheus.NewRegistry()
		registry.MustRegister(append(others, t)...)
		return promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
	}
	all, few := serve(true), serve(false)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		switch endpoints := r.FormValue("endpoints"); endpoints {
		case "", "true":
			all.ServeHTTP(w, r)
		case "false":
			few.ServeHTTP(w, r)
		default:
			http.Error(w, fmt.Sprintf("endpoints=%s: want true or false", endpoints), http.StatusBadRequest)
		}
	})
	return mux
}

// pipeline collects the packets that were dropped, by reason, and how full the tables are.
type pipeline func() datapath.Stats

var (
	dropsDesc    = prometheus.NewDesc("overlane_dropped_packets_total", "Packets that were dropped, by reason.", []string{"reason"}, nil)
	trustedDesc  = prometheus.NewDesc("overlane_trusted_packets_total", "Packets that containers sent from extra and link-local addresses, by port.", []string{"port"}, nil)
	vhostDesc    = prometheus.NewDesc("overlane_vhost_connected", "Whether the program of a container with a vhost-user port is connected: 1 or 0.", []string{"port"}, nil)
	memifDesc    = prometheus.NewDesc("overlane_memif_connected", "Whether the program of a container with a memif port is connected: 1 or 0.", []string{"port"}, nil)
	entriesDesc  = prometheus.NewDesc("overlane_table_entries", "Entries of the datapath's tables.", []string{"table"}, nil)
	capacityDesc = prometheus.NewDesc("overlane_table_capacity", "Entries that the datapath's tables can hold.", []string{"table"}, nil)
)

// nativeDescs are those of ports whose programs are connected or not.
var nativeDescs = map[string]*prometheus.Desc{datapath.KindVhost: vhostDesc, datapath.KindMemif: memifDesc}

// Describe implements prometheus.Collector.
func (p pipeline) Describe(ch chan<- *prometheus.Desc) {
	ch <- dropsDesc
	ch <- trustedDesc
	ch <- vhostDesc
	ch <- memifDesc
	ch <- entriesDesc
	ch <- capacityDesc
}

// Collect implements prometheus.Collector.
func (p pipeline) Collect(ch chan<- prometheus.Metric) {
	s := p()
	for reason, n := range s.Drops {
		ch <- prometheus.MustNewConstMetric(dropsDesc, prometheus.CounterValue, float64(n), reason)
	}
	for _, port := range s.Ports {
		if port.Trusted > 0 {
			ch <- prometheus.MustNewConstMetric(trustedDesc, prometheus.CounterValue, float64(port.Trusted), port.Name)
		}
		if desc := nativeDescs[port.Kind]; desc != nil {
			connected := 0.0
			if port.Connected {
				connected = 1
			}
			ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, connected, port.Name)
		}
	}
	for _, t := range s.Tables {
		ch <- prometheus.MustNewConstMetric(entriesDesc, prometheus.GaugeValue, float64(t.Entries), t.Name)
		ch <- prometheus.MustNewConstMetric(capacityDesc, prometheus.GaugeValue, float64(t.Capacity), t.Name)
	}
}

// queries collects what became of containers' DNS queries.
type queries func() overlay.NamesStatus

var (
	queriesDesc = prometheus.NewDesc("overlane_dns_queries_total", "Containers' DNS queries, and answers of Docker's server to them, by what became of them.", []string{"result"}, nil)
	servedDesc  = prometheus.NewDesc("overlane_dns_containers", "Containers whose queries are answered.", nil, nil)
)

// Describe implements prometheus.Collector.
func (q queries) Describe(ch chan<- *prometheus.Desc) {
	ch <- queriesDesc
	ch <- servedDesc
}

// Collect implements prometheus.Collector.
func (q queries) Collect(ch chan<- prometheus.Metric) {
	s := q()
	for result, n := range s.Queries {
		ch <- prometheus.MustNewConstMetric(queriesDesc, prometheus.CounterValue, float64(n), result)
	}
	ch <- prometheus.MustNewConstMetric(servedDesc, prometheus.GaugeValue, float64(s.Containers))
}
