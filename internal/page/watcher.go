package page

import (
	"encoding/json"
	"math"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/overlane/overlane/datapath"
)

const (
	// sampleInterval is how often the counters are read, and how old a state may be that is served.
	sampleInterval = time.Second
	// historyLength is for how many samples the past is kept: ten minutes.
	historyLength = 600
)

// Rate is how many bytes went through in a second.
type Rate struct {
	RxBytes float64 `json:"rx"`
	TxBytes float64 `json:"tx"`
}

func (r Rate) plus(o Rate) Rate {
	return Rate{r.RxBytes + o.RxBytes, r.TxBytes + o.TxBytes}
}

// rates are what two readings of the counters differ by.
type rates struct {
	at       time.Time
	ports    map[string]Rate // by name, as the container sees it
	paths    map[netip.AddrPort]Rate
	drops    map[string]float64 // those that there were
	underlay Rate
}

// perSecond is of a counter that may have begun anew.
func perSecond(now, was uint64, seconds float64) float64 {
	if now < was {
		was = 0
	}
	return math.Round(float64(now-was)/seconds*10) / 10
}

func rateOf(now, was datapath.Traffic, seconds float64) Rate {
	return Rate{perSecond(now.RxBytes, was.RxBytes, seconds), perSecond(now.TxBytes, was.TxBytes, seconds)}
}

// turned is traffic as the other side sees it.
func turned(t datapath.Traffic) datapath.Traffic {
	return datapath.Traffic{RxPackets: t.TxPackets, RxBytes: t.TxBytes, TxPackets: t.RxPackets, TxBytes: t.RxBytes}
}

// sample is one reading.
type sample struct {
	at    time.Time
	ports map[string]datapath.Traffic
	paths map[netip.AddrPort]datapath.Traffic
	stats datapath.Stats
}

func sampleOf(stats datapath.Stats, at time.Time) sample {
	s := sample{at, make(map[string]datapath.Traffic, len(stats.Ports)), make(map[netip.AddrPort]datapath.Traffic, len(stats.Paths)), stats}
	for _, p := range stats.Ports {
		s.ports[p.Name] = turned(p.Traffic)
	}
	for _, p := range stats.Paths {
		s.paths[p.VTEP] = p.Traffic
	}
	return s
}

// since compares a reading with an earlier one. What was not there then has no rate yet.
func (s sample) since(was sample) rates {
	seconds := max(s.at.Sub(was.at).Seconds(), 0.001)
	r := rates{s.at, map[string]Rate{}, map[netip.AddrPort]Rate{}, map[string]float64{}, rateOf(s.stats.Underlay, was.stats.Underlay, seconds)}
	for name, now := range s.ports {
		if then, there := was.ports[name]; there {
			r.ports[name] = rateOf(now, then, seconds)
		}
	}
	for vtep, now := range s.paths {
		if then, there := was.paths[vtep]; there {
			r.paths[vtep] = rateOf(now, then, seconds)
		}
	}
	for reason, now := range s.stats.Drops {
		if rate := perSecond(now, was.stats.Drops[reason], seconds); rate > 0 {
			r.drops[reason] = rate
		}
	}
	return r
}

// watcher reads the counters again and again, so that a page that is opened shows what went before.
type watcher struct {
	source Source
	stop   chan struct{}
	done   chan struct{}

	mu      sync.Mutex
	last    sample
	rates   rates
	history []rates // without ports and paths

	serving sync.Mutex // one state is made at a time, and serves all who ask
	made    time.Time
	state   []byte
	lacks   error
}

func watch(source Source, interval time.Duration) *watcher {
	w := &watcher{source: source, stop: make(chan struct{}), done: make(chan struct{})}
	w.read(time.Now())
	go func() {
		defer close(w.done)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-w.stop:
				return
			case at := <-ticker.C:
				w.read(at)
			}
		}
	}()
	return w
}

func (w *watcher) close() {
	close(w.stop)
	<-w.done
}

// read takes one sample.
func (w *watcher) read(at time.Time) {
	now := sampleOf(w.source.Stats(), at)
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.last
	w.last = now
	if before.at.IsZero() {
		return
	}
	w.rates = now.since(before)
	if len(w.history) == historyLength {
		w.history = append(w.history[:0], w.history[1:]...)
	}
	w.history = append(w.history, rates{at: at, drops: w.rates.drops, underlay: w.rates.underlay})
}

// serveState answers with the state, which is made once a second at most, however many ask.
func (w *watcher) serveState(out http.ResponseWriter, _ *http.Request) {
	w.serving.Lock()
	if time.Since(w.made) > sampleInterval/2 {
		w.makeState()
	}
	state, lacks := w.state, w.lacks
	w.serving.Unlock()
	if lacks != nil {
		http.Error(out, lacks.Error(), http.StatusServiceUnavailable)
		return
	}
	out.Header().Set("Content-Type", "application/json")
	out.Write(state) // an error is the client's going away
}

func (w *watcher) makeState() {
	w.made = time.Now()
	status, err := w.source.Status()
	if w.lacks = err; err != nil {
		return
	}
	w.mu.Lock()
	rates := w.rates
	rates.at = w.last.at
	w.mu.Unlock()
	w.state, w.lacks = json.Marshal(stateOf(&status, rates))
}

// History is what was in the last ten minutes: of each list an element a sample.
type History struct {
	Times []int64              `json:"times"` // milliseconds since 1970
	Rx    []float64            `json:"rx"`    // bytes a second of the underlay
	Tx    []float64            `json:"tx"`
	Drops map[string][]float64 `json:"drops"` // packets a second, by the reasons that there were
}

func (w *watcher) serveHistory(out http.ResponseWriter, _ *http.Request) {
	w.mu.Lock()
	h := History{Times: []int64{}, Rx: []float64{}, Tx: []float64{}, Drops: map[string][]float64{}}
	for i, r := range w.history {
		h.Times = append(h.Times, r.at.UnixMilli())
		h.Rx = append(h.Rx, r.underlay.RxBytes)
		h.Tx = append(h.Tx, r.underlay.TxBytes)
		for reason, rate := range r.drops {
			if h.Drops[reason] == nil {
				h.Drops[reason] = make([]float64, len(w.history))
			}
			h.Drops[reason][i] = rate
		}
	}
	w.mu.Unlock()
	out.Header().Set("Content-Type", "application/json")
	json.NewEncoder(out).Encode(h) // an error is the client's going away
}
