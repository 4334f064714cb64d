package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/overlane/overlane/contrib/bench/testbed"
)

// figures are the values that were taken, a name's each.
type figures map[string][]float64

func (f figures) note(name string, value float64) { f[name] = append(f[name], value) }

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

// titles are in the order of the report.
var titles = []struct{ name, title string }{
	{"idle_cpu_pct", "idle, % of a core"},
	{"idle_cpu_pct_1000", "idle with 1000 endpoints, % of a core"},
	{"start_ms", "docker run on a network of overlane's, ms"},
	{"bridge_start_ms", "docker run on a bridge of Docker's, ms"},
	{"alloc_p99_ms", "an address, 99th percentile, ms"},
	{"kill_gap_ms", "without traffic when the daemon is killed with 100 endpoints and started again, ms"},
	{"rss_mb_0", "memory, MB"},
	{"rss_mb_1000", "memory with 1000 endpoints, MB"},
	{"join_ms", "start on a new host until it knows 2 others and their endpoints, ms"},
}

func (f figures) print(out io.Writer) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "one node\tmedian\tvalues")
	result := []string{"RESULT bench=node"}
	for _, t := range titles {
		if f[t.name] == nil {
			continue // its stage was not to run
		}
		median := testbed.Median(f[t.name])
		fmt.Fprintf(table, "%s\t%.2f\t%.2f\n", t.title, median, f[t.name])
		result = append(result, fmt.Sprintf("%s=%.2f", t.name, median))
	}
	table.Flush()
	fmt.Fprintln(out, strings.Join(result, " "))
}
