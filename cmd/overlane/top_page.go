package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/internal/plain"
)

// plainWidth is of a page where no terminal says how wide it is.
const plainWidth = 80

// top is what is shown of the samples so far.
type top struct {
	before, last sample
	drops        map[string]time.Time // when each was seen to grow
	by           byte                 // key of the order
	failure      error                // why there is no new sample
}

func newTop() *top { return &top{drops: map[string]time.Time{}, by: 't'} }

// orders are the keys that sort, and by what.
var orders = map[byte]string{'t': "total", 'r': "received", 's': "sent", 'p': "packets", 'n': "name"}

// press takes a key; false: it quits. In a raw terminal ^C and ^D are keys.
func (t *top) press(key byte) (goOn bool) {
	const ctrlC, ctrlD = 3, 4
	if key == 'q' || key == ctrlC || key == ctrlD {
		return false
	}
	if orders[key] != "" {
		t.by = key
	}
	return true
}

// take goes on to the next sample.
func (t *top) take(s sample) {
	t.before, t.last = t.last, s
	if t.before.At.IsZero() {
		return
	}
	for name, count := range s.Drops {
		if grown(t.before.Drops[name], count) > 0 {
			t.drops[name] = s.At
		}
	}
}

// grown is by how much a counter has. One that is smaller began anew.
func grown(before, after uint64) uint64 {
	if after < before {
		return after
	}
	return after - before
}

// moved is what has moved a second.
type moved struct {
	what, where                          string
	rxPackets, rxBits, txPackets, txBits float64
}

// rates gives what moves by name, most first, of two samples' counters under the same names.
func (t *top) rates(before, after map[[2]string]datapath.Traffic) (all []moved) {
	seconds := t.seconds()
	for key, now := range after {
		was, known := before[key]
		if !known || now.RxBytes < was.RxBytes || now.TxBytes < was.TxBytes {
			was = now // it has another name, or is another one: what it has counted is not of this second
		}
		rate := func(before, after uint64) float64 { return float64(grown(before, after)) / seconds }
		m := moved{
			what: key[0], where: key[1],
			rxPackets: rate(was.RxPackets, now.RxPackets), rxBits: 8 * rate(was.RxBytes, now.RxBytes),
			txPackets: rate(was.TxPackets, now.TxPackets), txBits: 8 * rate(was.TxBytes, now.TxBytes),
		}
		all = append(all, m)
	}
	order := map[byte]func(moved) float64{
		't': func(m moved) float64 { return m.rxBits + m.txBits },
		'r': func(m moved) float64 { return m.rxBits },
		's': func(m moved) float64 { return m.txBits },
		'p': func(m moved) float64 { return m.rxPackets + m.txPackets },
		'n': func(moved) float64 { return 0 },
	}[t.by]
	slices.SortFunc(all, func(a, b moved) int {
		return cmp.Or(cmp.Compare(order(b), order(a)), cmp.Compare(a.what, b.what), cmp.Compare(a.where, b.where))
	})
	return all
}

// seconds are those between the samples.
func (t *top) seconds() float64 {
	if s := t.last.At.Sub(t.before.At).Seconds(); s > 0 && !t.before.At.IsZero() {
		return s
	}
	return topInterval.Seconds()
}

// containers and hosts by name: where several are called alike they are counted together.
func containersOf(s sample) map[[2]string]datapath.Traffic {
	all := map[[2]string]datapath.Traffic{}
	for _, e := range s.Endpoints {
		key := [2]string{e.Endpoint, e.Network}
		all[key] = all[key].Plus(e.Traffic)
	}
	return all
}

func hostsIn(s sample) map[[2]string]datapath.Traffic {
	all := map[[2]string]datapath.Traffic{}
	for _, h := range s.Hosts {
		key := [2]string{h.Host, h.VTEP.Addr().String()}
		all[key] = all[key].Plus(h.Traffic)
	}
	return all
}

// page is what is shown, at most so many lines of so many columns; height 0: all lines.
func (t *top) page(width, height int) string {
	lines := []string{t.head(width)}
	switch {
	case t.failure != nil:
		lines = append(lines, "", t.failure.Error())
	case t.before.At.IsZero():
		lines = append(lines, "", "measuring for a second")
	default:
		lines = append(lines, t.workers()...)
		sections := [][]string{
			t.traffic("CONTAINER", "NETWORK", containersOf, width), t.traffic("HOST", "VTEP", hostsIn, width), t.dropped(),
		}
		if height > 0 {
			sections = shorten(sections, height-len(lines))
		}
		for _, s := range sections {
			lines = append(append(lines, ""), s...)
		}
	}
	if height > 0 && len(lines) > height {
		lines = lines[:height]
	}
	for i, line := range lines {
		lines[i] = strings.TrimRight(fit(line, width), " ")
	}
	return strings.Join(lines, "\n") + "\n"
}

// shorten has sections with an empty line before each fit into so many lines: each gives way to the others as far as it is longer than its share.
func shorten(sections [][]string, height int) [][]string {
	room := height - len(sections)
	for {
		total := 0
		for _, s := range sections {
			total += len(s)
		}
		longest := 0
		for i, s := range sections {
			if len(s) > len(sections[longest]) {
				longest = i
			}
		}
		if total <= room || len(sections[longest]) <= 1 {
			return sections
		}
		sections[longest] = sections[longest][:len(sections[longest])-1]
	}
}

func (t *top) head(width int) string {
	left := fmt.Sprintf("%s %s", cmp.Or(t.last.Host, "overlane"), t.last.At.Local().Format(time.TimeOnly))
	if t.last.At.IsZero() {
		left = "overlane"
	}
	keys := "by " + orders[t.by] + "; keys: t r s p n sort, q quits"
	return left + strings.Repeat(" ", max(width-utf8.RuneCountInString(left)-len(keys), 1)) + keys
}

// taken is how many packets a second a worker took through the pipeline.
func (t *top) taken(worker int) float64 {
	packets := func(s sample) uint64 {
		if worker >= len(s.Bursts) { // of an older daemon
			return 0
		}
		return s.Bursts[worker].Ports.Packets + s.Bursts[worker].Underlay.Packets
	}
	return float64(grown(packets(t.before), packets(t.last))) / t.seconds()
}

// workers tells how busy each is, how many packets it takes, and what passes all of them to other hosts and from there.
func (t *top) workers() []string {
	var busy []string
	for i, ran := range t.last.Ran {
		if i < len(t.before.Ran) && i < len(t.last.CPUs) {
			share := grown(uint64(t.before.Ran[i]), uint64(ran))
			busy = append(busy, fmt.Sprintf("CPU %d %.0f %% %s/s", t.last.CPUs[i], min(100, time.Duration(share).Seconds()/t.seconds()*100), short10(t.taken(i))))
		}
	}
	b, l := t.before.Underlay, t.last.Underlay
	rate := func(before, after uint64) string { return short10(float64(grown(before, after)) / t.seconds()) }
	return []string{
		"workers  " + strings.Join(busy, ", "),
		fmt.Sprintf("underlay %s packets/s received, %s sent", rate(b.RxPackets, l.RxPackets), rate(b.TxPackets, l.TxPackets)),
	}
}

// traffic is a table of what moves.
func (t *top) traffic(what, where string, of func(sample) map[[2]string]datapath.Traffic, width int) []string {
	const numbers = 4 * 10
	first := max((width-numbers)*6/10, 8)
	second := max(width-numbers-first-1, 8)
	line := func(what, where string, cells ...string) string {
		text := fit(what, first) + " " + fit(where, second)
		for _, c := range cells {
			text += fmt.Sprintf("%10s", c)
		}
		return text
	}
	lines := []string{line(what, where, "RX PKT/S", "RX BIT/S", "TX PKT/S", "TX BIT/S")}
	for _, m := range t.rates(of(t.before), of(t.last)) {
		lines = append(lines, line(cmp.Or(m.what, "-"), m.where, short10(m.rxPackets), short10(m.rxBits), short10(m.txPackets), short10(m.txBits)))
	}
	return lines
}

// dropped is a table of what was dropped since the first sample, the latest first.
func (t *top) dropped() []string {
	lines := []string{fmt.Sprintf("%-20s %7s %10s  %-8s  %-15s %s", "DROPPED", "PKT/S", "ALL", "LAST", "MOST OF", "BECAUSE")}
	names := slices.SortedFunc(maps.Keys(t.drops), func(a, b string) int {
		rate := func(name string) uint64 { return grown(t.before.Drops[name], t.last.Drops[name]) }
		return cmp.Or(t.drops[b].Compare(t.drops[a]), cmp.Compare(rate(b), rate(a)), cmp.Compare(a, b))
	})
	for _, name := range names {
		rate := float64(grown(t.before.Drops[name], t.last.Drops[name])) / t.seconds()
		lines = append(lines, fmt.Sprintf("%-20s %7s %10d  %-8s  %s %s", name, short10(rate), t.last.Drops[name], t.drops[name].Local().Format(time.TimeOnly), fit(t.whose(name), 15), datapath.DropReason(name)))
	}
	return lines
}

// whose is the container that has most of what was dropped for a reason since the sample before, or in all where nothing was since; "-"
// where that is no container's.
func (t *top) whose(reason string) string {
	type key struct{ network, endpoint string }
	before := map[key]uint64{}
	for _, e := range t.before.Endpoints {
		before[key{e.Network, e.Endpoint}] = e.Drops[reason]
	}
	name, most := "-", [2]uint64{}
	for _, e := range t.last.Endpoints {
		all := e.Drops[reason]
		if counted := [2]uint64{grown(before[key{e.Network, e.Endpoint}], all), all}; slices.Compare(counted[:], most[:]) > 0 {
			name, most = e.Endpoint, counted
		}
	}
	return name
}

// short10 writes a number in a few characters, by powers of a thousand.
func short10(v float64) string {
	for _, unit := range []string{"", "k", "M", "G", "T"} {
		switch {
		case v < 9.95 && unit != "":
			return fmt.Sprintf("%.1f%s", v, unit)
		case v < 999.5:
			return fmt.Sprintf("%.0f%s", v, unit)
		}
		v /= 1000
	}
	return fmt.Sprintf("%.0fP", v)
}

// fit cuts a text, or fills it up, to so many columns. What others call themselves does not command the terminal.
func fit(text string, width int) string {
	text = plain.Text(text)
	runes := []rune(text)
	switch {
	case width <= 0:
		return ""
	case len(runes) > width:
		return string(runes[:width-1]) + "…"
	}
	return text + strings.Repeat(" ", width-len(runes))
}

// onScreen has a page replace the one before without flicker. In a raw terminal a line ends with a carriage return too.
func onScreen(page string) string {
	lines := strings.Split(strings.TrimSuffix(page, "\n"), "\n")
	return toBegin + strings.Join(lines, clearRest+"\r\n") + clearRest + clearBelow
}
