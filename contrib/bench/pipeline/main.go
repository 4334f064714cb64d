// Command pipeline measures overlane's own pipeline, as a rule on one CPU: frames come round and round out of a capture (net_pcap,
// infinite_rx) and go into nothing (net_null), through every check, look-up and counter that a container's frames pass.
//
//	pipeline frames INNER.pcap OUTER.pcap   write the frames, for the pipeline and for its peers
//	pipeline encap INNER.pcap               print Mpps of a container's frames into VXLAN
//	pipeline decap OUTER.pcap               print Mpps out of VXLAN, to the container
//
// With a vhost-user port, or one of memif in the place of vhost, whose program makes the socket and brings the frames, or takes them:
//
//	pipeline vhost encap SOCKET             print Mpps of a container's frames into VXLAN
//	pipeline vhost decap OUTER.pcap SOCKET  print Mpps out of VXLAN that the container has taken
//	pipeline vhost local SOCKET SOCKET      print Mpps from one container to another
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/overlane/overlane/datapath/dp"
)

var (
	flows   = flag.Int("flows", 1024, "UDP flows")
	macs    = flag.Int("macs", 64, "remote containers, at most 65536")
	size    = flag.Int("size", 64, "bytes of a frame, its FCS included, from 64")
	cpus    = flag.String("cpus", "1", "CPUs of the workers, comma separated; each has a queue of the capture to itself")
	seconds = flag.Int("seconds", 4, "seconds of measuring, after one to warm up")
	sample  = flag.Int("sample", 0, "capture one packet in so many, as a trace does; 0: none")
)

// ringBuffers is what the rings of two devices and the worker itself may hold beside the capture.
const ringBuffers = 8192

func main() {
	flag.Parse()
	if err := run(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "pipeline:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case *flows < 1 || *macs < 1 || *macs > 65536 || *size < 64 || *size > 1450:
		return errors.New("want 1 flow and more, 1 to 65536 MACs, frames of 64 to 1450 bytes")
	case len(args) == 3 && args[0] == "frames":
		return writeFrames(args[1], args[2], *flows, *macs, *size)
	case len(args) == 2 && args[0] == "encap":
		return measure(args[1], encap)
	case len(args) == 2 && args[0] == "decap":
		return measure(args[1], decap)
	}
	if len(args) < 2 {
		return errUsage
	}
	p, known := protocols[args[0]]
	if w := ways[args[1]]; !known || w.open == nil || w.args != len(args)-2 {
		return errUsage
	}
	return p.measure(args[1], args[2:])
}

// way is a direction through the pipeline: the device that frames come out of, and the one they go into.
type way struct{ source, sink uint32 }

func openCapture(file string, workers int) (uint32, error) {
	device, err := dp.OpenDevice("net_pcap0,infinite_rx=1" + strings.Repeat(",rx_pcap="+file, workers))
	if err != nil {
		return 0, fmt.Errorf("net_pcap: %w", err)
	}
	return device, nil
}

func openNull() (uint32, error) {
	device, err := dp.OpenDevice("net_null0,no-rx=1")
	if err != nil {
		return 0, fmt.Errorf("net_null: %w", err)
	}
	return device, nil
}

func measure(file string, open func(vtep uint32, w way) error) error {
	workers, err := start()
	if err != nil {
		return err
	}
	source, err := openCapture(file, workers)
	if err != nil {
		return err
	}
	sink, err := openNull()
	if err != nil {
		return err
	}
	vtep, err := forward()
	if err != nil {
		return err
	}
	w := way{source, sink}
	if err := open(vtep, w); err != nil {
		return err
	}
	if *sample > 0 {
		if err := trace(uint32(*sample)); err != nil {
			return err
		}
	}
	time.Sleep(time.Second)
	rate, err := w.rate(time.Duration(*seconds) * time.Second)
	if err != nil {
		return err
	}
	fmt.Printf("%.2f\n", rate/1e6)
	return nil
}

// trace captures headers of one packet in so many, until the program ends.
func trace(sample uint32) error {
	points := []dp.Point{dp.PointRead, dp.PointSent, dp.PointReceived, dp.PointDelivered, dp.PointDropped}
	made, err := dp.NewCapture(dp.CaptureConfig{VNI: vni, Points: points, Sample: sample, Snap: 256, Room: 1 << 22})
	if err != nil {
		return err
	}
	number, err := dp.StartCapture(made)
	if err != nil {
		return err
	}
	go func() {
		buffer := make([]byte, dp.CaptureRoomMin)
		for ; ; time.Sleep(50 * time.Millisecond) {
			for len(dp.TakeCaptured(number, 0, buffer)) > 0 {
			}
		}
	}()
	return nil
}

// start has DPDK's errors alone shown.
func start() (workers int, err error) {
	var list []int
	for text := range strings.SplitSeq(*cpus, ",") {
		cpu, err := strconv.Atoi(text)
		if err != nil {
			return 0, fmt.Errorf("-cpus %s: %w", *cpus, err)
		}
		list = append(list, cpu)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	var log logLines
	go io.Copy(&log, reader)
	return len(list), dp.Start(dp.Config{CPUs: list, VTEP: ourVTEP, Port: vxlanPort, Hugepages: true, DeviceBuffers: len(list) * (*flows + ringBuffers), Log: writer})
}

// forward fills the tables with one network, whose remote containers all live behind one VTEP.
func forward() (vtep uint32, err error) {
	if err := dp.AddNet(vni, false); err != nil {
		return 0, err
	}
	if vtep, err = dp.AddVTEP(netip.AddrPortFrom(peerVTEP, vxlanPort)); err != nil {
		return 0, err
	}
	for n := range *macs {
		if err := dp.SetMACVTEP(vni, remoteMAC(n), vtep); err != nil {
			return 0, err
		}
	}
	return vtep, nil
}

// addPort makes the local container; it sends as soon as it is there.
func addPort(device uint32) error {
	port, err := dp.AddPort(dp.Port{VNI: vni, MAC: localMAC, Addrs: []netip.Addr{localAddr}, Device: &device})
	if err != nil {
		return err
	}
	return dp.SetMACPort(vni, localMAC, port)
}

func encap(vtep uint32, w way) error {
	if err := dp.SetNextHop(vtep, w.sink, peerMAC); err != nil {
		return err
	}
	return addPort(w.source)
}

func decap(_ uint32, w way) error {
	if err := addPort(w.sink); err != nil {
		return err
	}
	return dp.SetUnderlay(w.source)
}

// rate is in packets a second that have left through the sink. It fails unless all that came in have left.
func (w way) rate(d time.Duration) (float64, error) {
	begin := time.Now()
	before, err := w.counters()
	if err != nil {
		return 0, err
	}
	time.Sleep(d)
	after, err := w.counters()
	if err != nil {
		return 0, err
	}
	elapsed := time.Since(begin).Seconds()
	for name, count := range dp.ReadStats().Drops {
		if count > 0 {
			return 0, fmt.Errorf("%d packets were dropped: %s", count, name)
		}
	}
	in, out := after.in-before.in, after.out-before.out
	// The two are not read at one moment: some bursts may lie between.
	if out == 0 || float64(out) < 0.999*float64(in) || float64(out) > 1.001*float64(in) {
		return 0, fmt.Errorf("%d packets came in and %d left", in, out)
	}
	return float64(out) / elapsed, nil
}

type counters struct{ in, out uint64 }

func (w way) counters() (counters, error) {
	source, err := dp.ReadDevice(w.source)
	if err != nil {
		return counters{}, err
	}
	sink, err := dp.ReadDevice(w.sink)
	return counters{source.RxPackets, sink.TxPackets}, err
}

// logLines shows what DPDK logs as an error: its lines come behind their level (rte_log.h: 4).
type logLines struct{}

func (logLines) Write(text []byte) (int, error) {
	if text[0] <= '4' {
		os.Stderr.Write(text)
	}
	return len(text), nil
}
