package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/capture"
	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/overlay"
)

// errEnough ends a capture that has what was asked for.
var errEnough = errors.New("that is all that was asked for")

// limits bound a capture.
type limits struct {
	count int
	time  time.Duration
}

func (l *limits) add(cmd *cobra.Command, count int, length time.Duration) {
	most := func(is bool) string {
		if is {
			return ""
		}
		return " (default: no limit)"
	}
	cmd.Flags().IntVarP(&l.count, "count", "c", count, "end after so many packets; 0: no limit"+most(count > 0))
	cmd.Flags().DurationVar(&l.time, "time", length, "end after so long; 0: no limit"+most(length > 0))
}

// context ends with the time, or when the operator interrupts.
func (l *limits) context(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(parent, os.Interrupt, syscall.SIGTERM)
	if l.time == 0 {
		return ctx, stop
	}
	ctx, cancel := context.WithTimeout(ctx, l.time)
	return ctx, func() { cancel(); stop() }
}

func (l *limits) check() error {
	if l.count < 0 {
		return fmt.Errorf("--count %d: want a number of packets, or 0 for no limit", l.count)
	}
	if l.time < 0 {
		return fmt.Errorf("--time %s: want a duration such as 30s, or 0 for no limit", l.time)
	}
	return nil
}

func captureCommand() *cobra.Command {
	f := new(controlFlags)
	var l limits
	var r overlay.CaptureRequest
	var file string
	var drops, encapsulated bool
	cmd := &cobra.Command{
		Use:   "capture [FILTER]",
		Short: "Write packets as overlane sees them to a file for Wireshark (pcapng)",
		Long: "Write packets as overlane sees them to a file for Wireshark (pcapng). FILTER is as in tcpdump and Wireshark, of containers' frames: tcp port 80.\n" +
			"Each packet is there at every point of its way, unless --point names some: read from its container, sent to another host, received there,\n" +
			"delivered to a container, dropped. Its interface and comment say where it was and what became of it. Without --host this host captures, and\n" +
			"that of --container. Other hosts give headers alone, unless their daemons have --remote-capture.\n\n" +
			"    overlane capture -n app --container web -w web.pcapng\n" +
			"    overlane capture --drops --host all | wireshark -k -i -",
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Filter, r.Sample = strings.Join(args, " "), 1
			if drops {
				r.Points = []datapath.Point{datapath.PointDropped}
			}
			if err := l.check(); err != nil {
				return err
			}
			out, err := captureFile(cmd, file)
			if err != nil {
				return err
			}
			ctx, cancel := l.context(cmd.Context())
			defer cancel()
			err = writeCapture(ctx, f.socket, r, out, encapsulated, l.count, cmd.ErrOrStderr())
			return errors.Join(err, out.Close())
		},
	}
	r.Points = datapath.Points[:]
	cmd.Flags().StringVarP(&r.Network, "network", "n", "", "of this network alone, by name, key or ID")
	cmd.Flags().StringVar(&r.Container, "container", "", "from this container and for it, by name or address")
	cmd.Flags().StringVar(&r.VTEP, "vtep", "", "sent to this host and received from it, by name")
	cmd.Flags().StringSliceVar(&r.Hosts, "host", nil, "hosts that capture, by name, or all; given several times, or comma separated")
	cmd.Flags().BoolVar(&drops, "drops", false, "those alone that are dropped")
	pointsFlag(cmd, &r.Points)
	cmd.Flags().IntVarP(&r.Snap, "snaplen", "s", datapath.MaxSnap, "bytes of a packet that are kept")
	cmd.Flags().BoolVar(&encapsulated, "encapsulated", false, "show packets between hosts with their VXLAN headers, as they are before encryption")
	cmd.Flags().StringVarP(&file, "write", "w", "-", "file to write; - is the standard output")
	cmd.MarkFlagsMutuallyExclusive("drops", "point")
	l.add(cmd, 0, 0)
	f.addSocket(cmd)
	return cmd
}

func pointsFlag(cmd *cobra.Command, points *[]datapath.Point) {
	cmd.Flags().Func("point", "points of the way, comma separated: read, sent, received, delivered, dropped (default: all)", func(text string) error {
		*points = nil
		for name := range strings.SplitSeq(text, ",") {
			if !slices.Contains(datapath.Points[:], datapath.Point(name)) {
				return fmt.Errorf("%q: want some of read, sent, received, delivered, dropped", name)
			}
			*points = append(*points, datapath.Point(name))
		}
		return nil
	})
}

// captureFile opens the file. A terminal shows nothing that can be read.
func captureFile(cmd *cobra.Command, name string) (io.WriteCloser, error) {
	if name != "-" {
		return &lateFile{name: name}, nil
	}
	out := cmd.OutOrStdout()
	if file, is := out.(*os.File); is {
		if _, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS); err == nil {
			return nil, errors.New("packets can't be read on a terminal: give -w FILE, or pipe them: overlane capture | wireshark -k -i -; `overlane trace` shows them in words")
		}
	}
	return keepOpen{out}, nil
}

// lateFile is made with what is first written to it: what was there before stays where nothing can be captured.
type lateFile struct {
	name string
	file *os.File
}

func (f *lateFile) Write(b []byte) (n int, err error) {
	if f.file == nil {
		if f.file, err = os.OpenFile(f.name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600); err != nil {
			return 0, err
		}
	}
	return f.file.Write(b)
}

func (f *lateFile) Close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}

// keepOpen is closed by somebody else.
type keepOpen struct{ io.Writer }

func (keepOpen) Close() error { return nil }

func writeCapture(ctx context.Context, socket string, r overlay.CaptureRequest, out io.Writer, encapsulated bool, count int, said io.Writer) error {
	file, err := capture.NewFile(out, "overlane", version(), encapsulated)
	if err != nil {
		return err
	}
	written, told := 0, map[string]string{}
	var reports map[string]capture.Report
	err = captureFrom(ctx, socket, r, func(c captured) error {
		reports = c.Reports
		tellReports(said, reports, told, true)
		for i, p := range c.Packets {
			if err := file.Write(p, &c.Events[i]); err != nil {
				return err
			}
			if written++; written == count {
				return errEnough
			}
		}
		return file.Flush()
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	if errors.Is(err, syscall.EPIPE) {
		return nil // who reads it has enough
	}
	if err != nil && reports == nil {
		return err // nothing was captured
	}
	if err := errors.Join(err, file.Close(reports)); err != nil {
		return err
	}
	fmt.Fprintf(said, "%d packets written; %s\n", written, lossText(reports))
	return nil
}

func lossText(reports map[string]capture.Report) string {
	var lossy, mute []string
	for _, host := range slices.Sorted(maps.Keys(reports)) {
		if lost := reports[host].Lost; lost > 0 {
			lossy = append(lossy, fmt.Sprintf("%d of %s", lost, host))
		}
		if r := reports[host]; r.Silent || r.Error != "" {
			mute = append(mute, host)
		}
	}
	text := "none was lost"
	if len(lossy) > 0 {
		text = "lost for want of room: " + strings.Join(lossy, ", ")
	}
	if len(mute) > 0 {
		text += "; not all is there of " + strings.Join(mute, ", ") + ", which did not answer in the end"
	}
	return text
}

// tellReports says once what is not as it should be with a host. Payload: it should give that as well.
func tellReports(out io.Writer, reports map[string]capture.Report, told map[string]string, payload bool) {
	for _, host := range slices.Sorted(maps.Keys(reports)) {
		r := reports[host]
		kind, text := "", ""
		switch {
		case r.Error != "" || r.Silent:
			kind, text = "silent", r.String()
		case r.Skew != 0:
			kind, text = "skew", fmt.Sprintf("its clock is %s %s that of this host: its packets' times were put right", r.Skew.Abs().Round(time.Millisecond), map[bool]string{true: "ahead of", false: "behind"}[r.Skew > 0])
		case payload && r.HeadersOnly:
			kind, text = "headers", "gives headers alone: its daemon has no --remote-capture"
		}
		if kind != told[host] {
			told[host] = kind
			if text != "" {
				fmt.Fprintf(out, "%s: %s\n", host, text)
			}
		}
	}
}
