package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/overlane/overlane/overlay/ipam"
)

// addressUsage collects how full this host's parts of pools are.
type addressUsage func() []ipam.Usage

var (
	addressesUsedDesc = prometheus.NewDesc("overlane_addresses_used", "Addresses of a pool that are in use on this host.", []string{"pool", "subnet"}, nil)
	addressesFreeDesc = prometheus.NewDesc("overlane_addresses_free", "Addresses of a pool that this host may hand out.", []string{"pool", "subnet"}, nil)
)

// Describe implements prometheus.Collector.
func (a addressUsage) Describe(ch chan<- *prometheus.Desc) {
	ch <- addressesUsedDesc
	ch <- addressesFreeDesc
}

// Collect implements prometheus.Collector.
func (a addressUsage) Collect(ch chan<- prometheus.Metric) {
	for _, u := range a() {
		ch <- prometheus.MustNewConstMetric(addressesUsedDesc, prometheus.GaugeValue, float64(u.Used), u.Key, u.Subnet.String())
		ch <- prometheus.MustNewConstMetric(addressesFreeDesc, prometheus.GaugeValue, float64(u.Free), u.Key, u.Subnet.String())
	}
}
