package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/overlane/overlane/overlay"
)

// keyAges collects how packets of encrypted networks go to other hosts.
type keyAges func() []overlay.EncryptionStatus

var (
	keyAgeDesc    = prometheus.NewDesc("overlane_encryption_key_age_seconds", "How long ago the key was agreed on with which packets of encrypted networks go to a host. Absent: there is none.", []string{"host", "vtep"}, nil)
	encryptedDesc = prometheus.NewDesc("overlane_encryption_unwell", "Whether something is wrong with the keys for a host of encrypted networks: 1 or 0. `overlane status` says what.", []string{"host", "vtep"}, nil)
)

// Describe implements prometheus.Collector.
func (k keyAges) Describe(ch chan<- *prometheus.Desc) {
	ch <- keyAgeDesc
	ch <- encryptedDesc
}

// Collect implements prometheus.Collector.
func (k keyAges) Collect(ch chan<- prometheus.Metric) {
	for _, s := range k() {
		unwell := 0.0
		if s.Reason != "" {
			unwell = 1
		}
		ch <- prometheus.MustNewConstMetric(encryptedDesc, prometheus.GaugeValue, unwell, s.Host, s.VTEP.String())
		if s.Cipher != "" {
			ch <- prometheus.MustNewConstMetric(keyAgeDesc, prometheus.GaugeValue, float64(s.KeyAge), s.Host, s.VTEP.String())
		}
	}
}
