package main

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/overlay"
)

// traffic collects what containers and hosts have said to each other, by names.
type traffic struct {
	stats     func() datapath.Stats
	named     func(datapath.Stats) ([]overlay.EndpointTraffic, []overlay.HostTraffic)
	networks  func(datapath.Stats) map[string]datapath.Traffic
	endpoints bool // each container has series of its own
}

// trafficDescs are the counters of one kind of thing, in the order of datapath.Traffic's fields.
type trafficDescs [4]*prometheus.Desc

func newTrafficDescs(name, help string, labels ...string) (descs trafficDescs) {
	for i, counted := range []struct{ direction, unit, what string }{
		{"receive", "packets", "Packets that %s received"}, {"receive", "bytes", "Bytes that %s received"},
		{"transmit", "packets", "Packets that %s sent"}, {"transmit", "bytes", "Bytes that %s sent"},
	} {
		descs[i] = prometheus.NewDesc(fmt.Sprintf("overlane_%s_%s_%s_total", name, counted.direction, counted.unit), fmt.Sprintf(counted.what, help)+".", labels, nil)
	}
	return descs
}

func (descs trafficDescs) collect(ch chan<- prometheus.Metric, t datapath.Traffic, labels ...string) {
	for i, value := range []uint64{t.RxPackets, t.RxBytes, t.TxPackets, t.TxBytes} {
		ch <- prometheus.MustNewConstMetric(descs[i], prometheus.CounterValue, float64(value), labels...)
	}
}

var (
	endpointDescs = newTrafficDescs("endpoint", "a container of this host", "network", "endpoint")
	networkDescs  = newTrafficDescs("network", "the containers of this host on a network, also those that have ended", "network")
	hostDescs     = newTrafficDescs("host", "this host, in VXLAN from another one or to it,", "host", "vtep")
	refusedDesc   = prometheus.NewDesc("overlane_endpoint_dropped_packets_total", "Packets that a container of this host sent, or was to get, and that were dropped, by reason.", []string{"network", "endpoint", "reason"}, nil)
	queueDesc     = prometheus.NewDesc("overlane_worker_queue_ratio", "How full the queue is of what a worker has to read from the underlay's sockets, from 0 to 1.", []string{"worker", "cpu"}, nil)
	restDesc      = prometheus.NewDesc("overlane_worker_rests_total", "How often a packet worker has stopped listening for 60 us to who sent it many datagrams: interrupt moderation.", []string{"worker", "cpu"}, nil)
	burstDesc     = prometheus.NewDesc("overlane_worker_burst_packets", "Packets that a worker took through the pipeline together, from containers or from the underlay.", []string{"worker", "cpu", "from"}, nil)
	workerDesc    = prometheus.NewDesc("overlane_worker_cpu_seconds_total", "How long a packet worker has run. One that has nothing to do sleeps.", []string{"worker", "cpu"}, nil)
	stuckDesc     = prometheus.NewDesc("overlane_worker_stuck", "1: a packet worker has not run for some seconds, and packets wait for it.", []string{"worker", "cpu"}, nil)
	buffersDesc   = prometheus.NewDesc("overlane_packet_buffers", "Packet buffers of the workers.", nil, nil)
	usedDesc      = prometheus.NewDesc("overlane_packet_buffers_used", "Packet buffers that are not free, with those that workers keep to read into.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c traffic) Describe(ch chan<- *prometheus.Desc) {
	for _, descs := range []trafficDescs{endpointDescs, networkDescs, hostDescs} {
		for _, desc := range descs {
			ch <- desc
		}
	}
	ch <- refusedDesc
	ch <- queueDesc
	ch <- restDesc
	ch <- burstDesc
	ch <- workerDesc
	ch <- stuckDesc
	ch <- buffersDesc
	ch <- usedDesc
}

// Collect implements prometheus.Collector.
func (c traffic) Collect(ch chan<- prometheus.Metric) {
	s := c.stats()
	endpoints, hosts := c.named(s)
	// Names may be had twice, series may not: such are counted together.
	named, refused := map[[2]string]datapath.Traffic{}, map[[3]string]uint64{}
	for _, e := range endpoints {
		key := [2]string{e.Network, e.Endpoint}
		named[key] = named[key].Plus(e.Traffic)
		for reason, n := range e.Drops {
			refused[[3]string{e.Network, e.Endpoint, reason}] += n
		}
	}
	for network, t := range c.networks(s) {
		networkDescs.collect(ch, t, network)
	}
	if c.endpoints {
		for key, t := range named {
			endpointDescs.collect(ch, t, key[:]...)
		}
		for key, n := range refused {
			ch <- prometheus.MustNewConstMetric(refusedDesc, prometheus.CounterValue, float64(n), key[:]...)
		}
	}
	for _, h := range hosts {
		hostDescs.collect(ch, h.Traffic, h.Host, h.VTEP.String())
	}
	for i, ran := range s.Ran {
		worker, cpu := strconv.Itoa(i), strconv.Itoa(s.Workers[i])
		ch <- prometheus.MustNewConstMetric(workerDesc, prometheus.CounterValue, ran.Seconds(), worker, cpu)
		stuck := 0.0
		if slices.Contains(s.Stuck, s.Workers[i]) {
			stuck = 1
		}
		ch <- prometheus.MustNewConstMetric(stuckDesc, prometheus.GaugeValue, stuck, worker, cpu)
		ch <- prometheus.MustNewConstMetric(queueDesc, prometheus.GaugeValue, s.QueueFill[i], worker, cpu)
		ch <- prometheus.MustNewConstMetric(restDesc, prometheus.CounterValue, float64(s.Rests[i]), worker, cpu)
		collectBursts(ch, s.Bursts[i].Ports, worker, cpu, "containers")
		collectBursts(ch, s.Bursts[i].Underlay, worker, cpu, "underlay")
	}
	ch <- prometheus.MustNewConstMetric(buffersDesc, prometheus.GaugeValue, float64(s.MbufsTotal))
	ch <- prometheus.MustNewConstMetric(usedDesc, prometheus.GaugeValue, float64(s.MbufsInUse))
}

func collectBursts(ch chan<- prometheus.Metric, b datapath.Bursts, labels ...string) {
	var count uint64
	buckets := map[float64]uint64{}
	for i, n := range b.Sizes {
		count += n
		buckets[float64(uint(1)<<i)] = count
	}
	ch <- prometheus.MustNewConstHistogram(burstDesc, count, float64(b.Packets), buckets, labels...)
}
