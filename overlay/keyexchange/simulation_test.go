package keyexchange

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	step    = 10 * time.Millisecond
	flight  = time.Second      // a packet is on its way no longer
	healing = 12 * time.Second // the longest wait between two tries, and a moment
)

// packet is one that is on its way between two hosts.
type packet struct {
	at       time.Time
	from, to int
	text     []byte // of a message
	spi      uint32 // of what is encrypted
	key      string
	counts   int // of the pair's restarts when it was sent; less than zero: nobody has said that it arrives
}

// host is one in the simulation: its exchange, and what its datapath has.
type host struct {
	*Exchange
	out map[int]installed
	in  map[int]map[uint32]string
}

type installed struct {
	spi uint32
	key string
}

// world is hosts on a network that loses, doubles, delays and plays back.
type world struct {
	t        *testing.T
	rand     *rand.Rand
	now      time.Time
	hosts    []*host
	loss     float64
	cut      map[[2]int]bool // pairs between which no message arrives, either way
	flying   []packet
	old      []packet         // messages ever sent, to be played back
	had      []map[*SA]string // by host: the key of each SA
	owners   []map[string]*SA // and the SA of each key
	restarts map[[2]int]int   // by pair
	done     map[[2]int]int   // the restarts after which a first exchange was done
	rekey    time.Duration
	opened   int
}

var ids = []string{strings.Repeat("0", idSize), strings.Repeat("1", idSize), strings.Repeat("2", idSize)}

func id(host int) string { return ids[host] }

func newWorld(t *testing.T, seed uint64, hosts int, rekey time.Duration) *world {
	w := &world{t: t, rand: rand.New(rand.NewPCG(seed, 0)), now: time.UnixMilli(1e12), cut: map[[2]int]bool{}, restarts: map[[2]int]int{}, done: map[[2]int]int{}, rekey: rekey}
	w.hosts = make([]*host, hosts)
	for i := range hosts {
		w.had, w.owners = append(w.had, map[*SA]string{}), append(w.owners, map[string]*SA{})
		w.start(i)
	}
	return w
}

func both(a, b int) [2]int { return [2]int{min(a, b), max(a, b)} }

// start begins a host anew, with nothing of what it knew.
func (w *world) start(i int) {
	w.hosts[i] = &host{
		Exchange: New(Config{Self: id(i), Start: uint64(w.now.UnixMilli()), KeySize: 16 + 16*w.rand.IntN(2), RekeyAfter: w.rekey}),
		out:      map[int]installed{}, in: map[int]map[uint32]string{},
	}
	for j := range w.hosts {
		w.restarts[both(i, j)]++
	}
	w.do(i, w.hosts[i].SetPeers(w.now, w.others(i)))
}

func (w *world) others(i int) (ids []string) {
	for j := range w.hosts {
		if j != i {
			ids = append(ids, id(j))
		}
	}
	return ids
}

func (w *world) index(id string) int { return int(id[0] - '0') }

// do is what a host does with an output.
func (w *world) do(i int, out Output) {
	h := w.hosts[i]
	for _, p := range out.SAs {
		j := w.index(p.Peer)
		delete(h.out, j)
		h.in[j] = map[uint32]string{}
		if len(p.In) > maxKeys*maxKeys {
			w.t.Fatalf("%d SAs to receive", len(p.In))
		}
		for _, sa := range p.In {
			h.in[j][sa.SPI] = w.install(i, sa)
		}
		if p.Out != nil {
			h.out[j] = installed{p.Out.SPI, w.install(i, p.Out)}
		}
	}
	for _, m := range out.Messages {
		p := packet{from: i, to: w.index(m.To), text: m.Text}
		w.old = append(w.old, p)
		for range 1 + w.rand.IntN(10)/9 {
			if w.rand.Float64() >= w.loss && !w.cut[both(p.from, p.to)] {
				w.fly(p, 700*time.Millisecond)
			}
		}
	}
}

// install makes the datapath's object, the only one with the key.
func (w *world) install(i int, sa *SA) string {
	if key, made := w.had[i][sa]; made {
		return key
	}
	key := string(sa.Key)
	if strings.Trim(key, "\x00") == "" {
		w.t.Fatalf("host %d is to make an SA whose key was wiped", i)
	}
	if w.owners[i][key] != nil {
		w.t.Fatalf("host %d has two SAs with one key", i)
	}
	w.had[i][sa], w.owners[i][key] = key, sa
	sa.Wipe()
	return key
}

func (w *world) fly(p packet, most time.Duration) {
	p.at = w.now.Add(time.Duration(w.rand.Int64N(int64(most))))
	w.flying = append(w.flying, p)
}

// established says that a pair has had its first exchange, with no restart since.
func (w *world) established(i, j int) bool {
	of := both(i, j)
	a, b := w.hosts[i].peers[id(j)], w.hosts[j].peers[id(i)]
	if a.out != nil && b.out != nil && a.acked && b.acked {
		w.done[of] = w.restarts[of]
	}
	return w.done[of] == w.restarts[of] && w.restarts[of] > 0
}

// turn is one step of time.
func (w *world) turn() {
	w.now = w.now.Add(step)
	for i, h := range w.hosts {
		if next := h.Next(); !next.IsZero() && !w.now.Before(next) {
			w.do(i, h.Tick(w.now))
		}
	}
	var arrived []packet
	w.flying = slices.DeleteFunc(w.flying, func(p packet) bool {
		if w.now.Before(p.at) {
			return false
		}
		arrived = append(arrived, p)
		return true
	})
	for _, p := range arrived {
		w.arrive(p)
	}
	for i, h := range w.hosts {
		for j, out := range h.out {
			if p := (packet{from: i, to: j, spi: out.spi, key: out.key, counts: -1}); w.rand.IntN(4) == 0 {
				if w.established(i, j) {
					p.counts = w.restarts[both(i, j)]
				}
				w.fly(p, flight)
			}
		}
	}
}

func (w *world) arrive(p packet) {
	if p.text != nil {
		out, err := w.hosts[p.to].Receive(w.now, id(p.from), p.text)
		if err != nil {
			w.t.Fatalf("host %d refuses what host %d said: %v", p.to, p.from, err)
		}
		w.do(p.to, out)
		return
	}
	if w.hosts[p.to].in[p.from][p.spi] == p.key {
		w.opened++
	} else if p.counts == w.restarts[both(p.from, p.to)] {
		w.t.Fatalf("at %s host %d can't open a packet of host %d", w.now.Sub(time.UnixMilli(1e12)), p.to, p.from)
	}
}

func (w *world) run(length time.Duration) {
	for end := w.now.Add(length); w.now.Before(end); {
		w.turn()
	}
}

// disturb does something that may happen to hosts.
func (w *world) disturb(restarts bool) {
	i := w.rand.IntN(len(w.hosts))
	j := (i + 1 + w.rand.IntN(len(w.hosts)-1)) % len(w.hosts)
	h := w.hosts[i]
	switch w.rand.IntN(8) {
	case 0:
		w.loss = []float64{0, 0.1, 0.5, 0.9}[w.rand.IntN(4)]
	case 1:
		w.cut[both(i, j)] = !w.cut[both(i, j)]
	case 2:
		w.do(i, h.Rekey(w.now, id(j)))
	case 3, 4:
		p := w.old[w.rand.IntN(len(w.old))]
		if h := w.hosts[p.to]; h != nil {
			out, _ := h.Receive(w.now, id(p.from), p.text)
			w.do(p.to, out)
		}
	case 5:
		if restarts {
			w.start(i)
		}
	case 6:
		if restarts { // the one forgets the other
			w.restarts[both(i, j)]++
			w.do(i, h.SetPeers(w.now, slices.DeleteFunc(w.others(i), func(other string) bool { return other == id(j) })))
			w.do(i, h.SetPeers(w.now, w.others(i)))
		}
	case 7:
		if restarts { // packets get lost until the other hears of the new key
			for k := range w.hosts {
				w.restarts[both(i, k)]++
			}
			w.do(i, h.Renounce(w.now))
		}
	}
}

// agree checks that each host opens what the others send now, with keys that are not older than the last loss.
func (w *world) agree(since time.Time) {
	w.t.Helper()
	for i, h := range w.hosts {
		for j, other := range w.hosts {
			out, has := h.out[j]
			if i == j {
				continue
			}
			if !has || other.in[i][out.spi] != out.key {
				w.t.Fatalf("host %d can't open what host %d sends: %+v and %+v", j, i, h.Status()[id(j)], other.Status()[id(i)])
			}
			if made := h.Status()[id(j)].Out.Made; w.rekey < time.Minute && made.Before(since) {
				w.t.Fatalf("host %d sends to host %d with a key of %s before the network was well", i, j, since.Sub(made))
			}
		}
	}
}

// Whatever gets lost, late, doubled or played back, hosts agree soon after, and what they send arrives all the while.
func TestHostsAgree(t *testing.T) {
	for seed := range uint64(schedules) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, seed, 2+int(seed%2), []time.Duration{time.Second, time.Second, time.Hour}[seed%3])
			for range 20 {
				w.run(time.Duration(w.rand.Int64N(int64(4 * time.Second))))
				w.disturb(seed%4 > 1)
			}
			if seed%5 == 0 { // longer than keys are kept that were replaced
				w.cut[both(0, 1)] = true
				w.run(keep + 10*time.Second)
			}
			clear(w.cut)
			w.loss = 0
			well := w.now
			w.run(healing)
			w.agree(well)
			if w.opened == 0 {
				t.Error("no packet arrived")
			}
		})
	}
}
