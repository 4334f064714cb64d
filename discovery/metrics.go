package discovery

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what the shell sees; the rest is asked of the core when somebody
// looks.
type metrics struct {
	messages *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	repairs  prometheus.Counter
	delay    prometheus.Histogram
}

func newMetrics() *metrics {
	return &metrics{
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "overlane_gossip_messages_total",
			Help: "Messages about records, by direction and by what they chiefly carry.",
		}, []string{"direction", "kind"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "overlane_gossip_bytes_total",
			Help: "Bytes of messages about records, by direction and by what they chiefly carry.",
		}, []string{"direction", "kind"}),
		repairs: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "overlane_gossip_repairs_total",
			Help: "Times this node asked for something that it knew it lacked.",
		}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "overlane_convergence_seconds",
			Help:    "From a change on another host until it was known here, by the two hosts' clocks.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 12),
		}),
	}
}

// kind is what the packet chiefly carries.
func (p *packet) kind() string {
	switch {
	case len(p.deltas) > 0:
		return "delta"
	case len(p.announces) > 0:
		return "announce"
	case len(p.wants) > 0:
		return "want"
	case p.versions != nil:
		return "versions"
	}
	return "digest"
}

func (m *metrics) count(direction string, p *packet, size, times int) {
	m.messages.WithLabelValues(direction, p.kind()).Add(float64(times))
	m.bytes.WithLabelValues(direction, p.kind()).Add(float64(size * times))
}

func (m *metrics) observe(out *output) {
	for _, d := range out.delays {
		m.delay.Observe(d.Seconds())
	}
	for _, s := range out.sends {
		m.repairs.Add(float64(len(s.packet.wants)))
	}
}

// What is read from the core.
var (
	membersDesc  = prometheus.NewDesc("overlane_members", "Nodes of the cluster, this one included, by state.", []string{"state"}, nil)
	recordsDesc  = prometheus.NewDesc("overlane_records", "Endpoints that this node knows of: its own, others' in use, hidden ones, and static ones in use.", []string{"state"}, nil)
	behindDesc   = prometheus.NewDesc("overlane_versions_behind", "Versions of other nodes' sets that this node knows of and lacks.", nil, nil)
	rejectedDesc = prometheus.NewDesc("overlane_gossip_rejected_total", "Input that was not taken, by reason.", []string{"reason"}, nil)
)

// Describe implements prometheus.Collector.
func (c *Cluster) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *Cluster) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	c.mu.Lock()
	states, records, behind := c.core.tally(time.Now())
	c.mu.Unlock()
	for _, s := range []State{StateAlive, StateSuspect, StateDead, StateLeft} {
		gauge(membersDesc, states[s], string(s))
	}
	for _, state := range []string{"own", "used", "hidden", "static"} {
		gauge(recordsDesc, records[state], state)
	}
	gauge(behindDesc, behind)
	for reason, n := range c.Rejected() {
		ch <- prometheus.MustNewConstMetric(rejectedDesc, prometheus.CounterValue, float64(n), reason)
	}
	c.metrics.messages.Collect(ch)
	c.metrics.bytes.Collect(ch)
	c.metrics.repairs.Collect(ch)
	c.metrics.delay.Collect(ch)
}

var _ prometheus.Collector = (*Cluster)(nil)
