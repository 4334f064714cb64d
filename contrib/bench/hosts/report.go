package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/overlane/overlane/contrib/bench/testbed"
)

// figures are those that both contenders have, in the order of the report.
var figures = []struct{ name, key, title string }{
	{"tcp1", "tcp1_gbps", "TCP, 1 stream, Gb/s"},
	{"tcp4", "tcp4_gbps", "TCP, 4 streams, Gb/s"},
	{"udp64", "udp64_kpps", "UDP 64 B delivered, kpps"},
	{"udp1400", "udp1400_kpps", "UDP 1400 B delivered, kpps"},
	{"p50", "p50_us", "request/response, one way, p50, µs"},
	{"p99", "p99_us", "request/response, one way, p99, µs"},
	{"same_host_tcp1", "same_host_tcp1_gbps", "one host: TCP, 1 stream, Gb/s"},
	{"same_host_p50", "same_host_p50_us", "one host: request/response, one way, p50, µs"},
}

type report struct {
	ours, theirs map[string][]float64 // a value for each round
	idle         float64
	machine      machine
	encrypted    encryptedFigures
}

func newReport(idle float64, m machine) *report {
	return &report{ours: map[string][]float64{}, theirs: map[string][]float64{}, idle: idle, machine: m}
}

func (r *report) print(out io.Writer) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "two hosts, veth wire, MTU 1500\toverlane\tDocker overlay\tratio")
	result := []string{"RESULT bench=hosts"}
	for _, f := range figures {
		ours, theirs := testbed.Median(r.ours[f.key]), testbed.Median(r.theirs[f.key])
		fmt.Fprintf(table, "%s\t%.2f\t%.2f\t%.2f\n", f.title, ours, theirs, ours/theirs)
		result = append(result, fmt.Sprintf("%s=%.2f overlay_%s=%.2f %s_ratio=%.2f", f.key, ours, f.key, theirs, f.name, ours/theirs))
	}
	ours, theirs := testbed.Median(r.ours["cpu_s_per_gb"]), testbed.Median(r.theirs["cpu_s_per_gb"])
	fmt.Fprintf(table, "CPU seconds per GB, whole machine\t%.2f\t%.2f\t%.2f\n", ours, theirs, ours/theirs)
	fmt.Fprintf(table, "idle daemon, %% of a core\t%.2f\t\t\n", r.idle)
	result = append(result, fmt.Sprintf("cpu_s_per_gb=%.2f overlay_cpu_s_per_gb=%.2f idle_cpu_pct=%.2f", ours, theirs, r.idle))
	for _, f := range floods {
		key := f.key + "_left"
		ours, theirs := testbed.Median(r.ours[key]), testbed.Median(r.theirs[key])
		fmt.Fprintf(table, "TCP beside a flood of %s, part left\t%.2f\t%.2f\t\n", f.title, ours, theirs)
		result = append(result, fmt.Sprintf("%s=%.2f overlay_%s=%.2f", key, ours, key, theirs))
		for _, percentile := range []string{"p50", "p99"} {
			key := fmt.Sprintf("%s_%s_us", f.key, percentile)
			ours, theirs := testbed.Median(r.ours[key]), testbed.Median(r.theirs[key])
			fmt.Fprintf(table, "request/response beside it, one way, %s, µs\t%.2f\t%.2f\t%.2f\n", percentile, ours, theirs, ours/theirs)
			result = append(result, fmt.Sprintf("%s=%.2f overlay_%s=%.2f", key, ours, key, theirs))
		}
	}
	fmt.Fprintf(table, "a system call of this machine, ns\t%.0f\t\t\n", r.machine.syscallNs)
	fmt.Fprintf(table, "waking a thread on it, µs\t%.1f\t\t\n", r.machine.wakeUs)
	result = append(result, fmt.Sprintf("syscall_ns=%.0f wake_us=%.1f", r.machine.syscallNs, r.machine.wakeUs))
	table.Flush()
	result = append(result, r.encrypted.print(out)...)
	fmt.Fprintln(out, strings.Join(result, " "))
}

// print gives what belongs into the last line.
func (f encryptedFigures) print(out io.Writer) (result []string) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nencrypted\toverlane\tDocker overlay without offloads\tratio\toverlane plain, by sockets\tratio")
	for _, row := range []struct{ name, key, title string }{
		{"tcp1", "tcp1_gbps", "TCP, 1 stream, Gb/s"},
		{"tcp4", "tcp4_gbps", "TCP, 4 streams, Gb/s"},
		{"udp1380", "udp1380_kpps", "UDP 1380 B delivered, kpps"},
		{"p50", "p50_us", "request/response, one way, p50, µs"},
		{"p99", "p99_us", "request/response, one way, p99, µs"},
		{"cpu", "cpu_s_per_gb", "CPU seconds per GB, whole machine"},
	} {
		ours, theirs, plain := testbed.Median(f.ours[row.key]), testbed.Median(f.theirs[row.key]), testbed.Median(f.plain[row.key])
		fmt.Fprintf(table, "%s\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\n", row.title, ours, theirs, ours/theirs, plain, ours/plain)
		result = append(result, fmt.Sprintf("enc_%s=%.2f enc_%s_ratio=%.2f enc_%s_plain_ratio=%.2f", row.key, ours, row.name, ours/theirs, row.name, ours/plain))
	}
	table.Flush()
	return result
}
