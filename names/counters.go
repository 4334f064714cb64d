package names

import "sync/atomic"

// counter is what became of a query, or of an answer of Docker's server.
type counter int

const (
	countAnswered counter = iota
	countEmpty
	countForwarded
	countReturned
	countMalformed
	countStray
	countBusy
	countUnsent
	countRefused
	countUnasked
	counterCount
)

var counterTexts = [counterCount]struct{ name, help string }{
	countAnswered:  {"answered", "answered from the table"},
	countEmpty:     {"empty", "the name is in the table, and has no record of that type"},
	countForwarded: {"forwarded", "passed on to Docker's server"},
	countReturned:  {"returned", "answers of Docker's server that were passed back"},
	countMalformed: {"malformed", "dropped: no query, or a longer one than any name needs"},
	countStray:     {"stray", "dropped: sent to no port at which Docker's server is"},
	countBusy:      {"busy", "dropped: the container has as many at Docker's server as it may"},
	countUnsent:    {"unsent", "dropped: the kernel took the answer or the query no more"},
	countRefused:   {"refused", "TCP connections that were closed at once: the container, or all, have as many as they may"},
	countUnasked:   {"unasked", "dropped: answers to what was not asked, or too late"},
}

// Help says what a counter of Status.Queries means.
func Help(name string) string {
	for _, c := range counterTexts {
		if c.name == name {
			return c.help
		}
	}
	return ""
}

type counters [counterCount]atomic.Uint64

func (c *counters) add(what counter) { c[what].Add(1) }

func (c *counters) read() map[string]uint64 {
	all := make(map[string]uint64, counterCount)
	for i := range c {
		all[counterTexts[i].name] = c[i].Load()
	}
	return all
}
