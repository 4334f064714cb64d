package discovery

import (
	"slices"
	"testing"
	"time"
)

// reachMany gives the times from a Put on one of many nodes until another has it in its view, in order. The nodes are
// looked at one after the other, so that what is measured is never too little.
func reachMany(t *testing.T, listen listener) []time.Duration {
	t.Helper()
	const puts = 40
	var nodes []*testNode
	for i := range manyNodes {
		var options []nodeOption
		if i > 0 {
			options = append(options, withJoin(nodes[0]))
		}
		n := startNode(t, listen, i+1, options...)
		n.subscribe(appNet)
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		n.waitView(patience, manyNodes-1, 0, 0)
	}
	var delays []time.Duration
	for i := range puts {
		owner := nodes[i%manyNodes]
		e := testEndpoint(i%manyNodes+1, i)
		began := time.Now()
		owner.Put(appKey, e)
		for _, n := range nodes {
			if n != owner {
				n.wait(patience, "the MAC is known", func() bool { return n.mac(e) == owner.cfg.VTEP.String() })
				delays = append(delays, time.Since(began))
			}
		}
	}
	slices.Sort(delays)
	return delays
}

func TestRecordsReachManyNodes(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		if all := reachMany(t, l.listen); all[len(all)-1] > 2*flushDelay {
			t.Errorf("where nothing is lost, deliveries took up to %s", all[len(all)-1])
		}
	})
}
