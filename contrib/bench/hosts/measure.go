package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/overlane/overlane/contrib/bench/testbed"
)

// Where containers are whom container 0 speaks to.
const (
	onOtherHost = 1
	onSameHost  = 2
)

// measure takes each figure once: Gb/s, thousands of packets a second delivered, microseconds one way, CPU seconds per 10^9 bytes,
// what floods leave, and how fast containers of one host are.
func measure(ctx context.Context, p *pair, window time.Duration, taken map[string][]float64) error {
	note := func(name string, value float64) { note(taken, name, value) }
	for _, streams := range []int{1, 4} {
		gbps, cpu, err := tcp(ctx, p, onOtherHost, window, streams)
		if err != nil {
			return err
		}
		note(fmt.Sprintf("tcp%d_gbps", streams), gbps)
		if streams == 1 {
			note("cpu_s_per_gb", cpu)
		}
	}
	for _, size := range []int{64, 1400} {
		kpps, err := udp(ctx, p, onOtherHost, window, size)
		if err != nil {
			return err
		}
		note(fmt.Sprintf("udp%d_kpps", size), kpps)
	}
	p50, p99, err := latency(ctx, p, onOtherHost, window)
	if err != nil {
		return err
	}
	note("p50_us", p50)
	note("p99_us", p99)
	if err := measureSameHost(ctx, p, window, note); err != nil {
		return fmt.Errorf("on one host: %w", err)
	}
	return besideFloods(ctx, p, window, note)
}

func measureSameHost(ctx context.Context, p *pair, window time.Duration, note func(string, float64)) error {
	gbps, _, err := tcp(ctx, p, onSameHost, window, 1)
	if err != nil {
		return err
	}
	note("same_host_tcp1_gbps", gbps)
	p50, _, err := latency(ctx, p, onSameHost, window)
	note("same_host_p50_us", p50)
	return err
}

// iperfReport is what is read of iperf3's JSON. Sum tells of UDP what the receiver has seen.
type iperfReport struct {
	End struct {
		SumReceived struct {
			Bytes float64
			Rate  float64 `json:"bits_per_second"`
		} `json:"sum_received"`
		Sum struct {
			Seconds, Packets float64
			Lost             float64 `json:"lost_packets"`
		}
	}
	Error string
}

func iperf(ctx context.Context, p *pair, to int, window time.Duration, args ...string) (report iperfReport, err error) {
	server := testbed.Command(ctx, p.containers[to], "iperf3", "-s", "-1")
	if err := server.Start(); err != nil {
		return report, err
	}
	defer end(server)
	if err := listening(ctx, p.containers[to], 5201); err != nil {
		return report, fmt.Errorf("iperf3: %w", err)
	}
	args = append([]string{"iperf3", "-c", containerAddr[to], "-J", "-t", fmt.Sprint(window.Seconds())}, args...)
	out, failed := testbed.Command(ctx, p.containers[0], args...).Output()
	err = json.Unmarshal(out, &report)
	if failed != nil || err != nil || report.Error != "" {
		return report, fmt.Errorf("%v: %s: %w", args, report.Error, errors.Join(failed, err))
	}
	return report, nil
}

func tcp(ctx context.Context, p *pair, to int, window time.Duration, streams int) (gbps, cpuPerGB float64, err error) {
	before, err := testbed.BusyTime()
	if err != nil {
		return 0, 0, err
	}
	report, err := iperf(ctx, p, to, window, "-P", fmt.Sprint(streams))
	if err != nil {
		return 0, 0, err
	}
	after, err := testbed.BusyTime()
	return report.End.SumReceived.Rate / 1e9, (after - before).Seconds() / (report.End.SumReceived.Bytes / 1e9), err
}

func udp(ctx context.Context, p *pair, to int, window time.Duration, size int) (kpps float64, err error) {
	report, err := iperf(ctx, p, to, window, "-u", "-b", "0", "-l", fmt.Sprint(size))
	return (report.End.Sum.Packets - report.End.Sum.Lost) / report.End.Sum.Seconds / 1000, err
}

var percentile = regexp.MustCompile(`percentile (50|99)\.000\s*=\s*([0-9.]+)`)

// latency is half of the time that a request of 64 bytes and its answer take over TCP; where next to none had an answer, the window.
func latency(ctx context.Context, p *pair, to int, window time.Duration) (p50, p99 float64, err error) {
	const port = 11111
	server := testbed.Command(ctx, p.containers[to], "sockperf", "server", "--tcp", "-i", containerAddr[to], "-p", fmt.Sprint(port))
	if err := server.Start(); err != nil {
		return 0, 0, err
	}
	defer end(server)
	if err := listening(ctx, p.containers[to], port); err != nil {
		return 0, 0, fmt.Errorf("sockperf: %w", err)
	}
	out, err := testbed.Command(ctx, p.containers[0], "sockperf", "ping-pong", "--tcp", "-i", containerAddr[to], "-p", fmt.Sprint(port),
		"-t", fmt.Sprint(window.Seconds()), "-m", "64").CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("sockperf: %w: %s", err, out)
	}
	found := map[string]float64{}
	for _, match := range percentile.FindAllStringSubmatch(string(out), -1) {
		if found[match[1]], err = strconv.ParseFloat(match[2], 64); err != nil {
			return 0, 0, err
		}
	}
	if strings.Contains(string(out), "No valid observations") {
		lost := float64(window.Microseconds())
		return lost, lost, nil
	}
	if len(found) != 2 {
		return 0, 0, fmt.Errorf("sockperf told no percentiles: %s", out)
	}
	return found["50"], found["99"], nil
}

func listening(ctx context.Context, ns string, port int) error {
	return testbed.Eventually(ctx, func() error {
		out, err := testbed.Command(ctx, ns, "ss", "-Hltn", fmt.Sprintf("sport = :%d", port)).Output()
		if err == nil && strings.TrimSpace(string(out)) == "" {
			return fmt.Errorf("nobody listens on %d", port)
		}
		return err
	})
}

func end(server *exec.Cmd) {
	server.Process.Kill()
	server.Wait()
}
