package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/overlane/overlane/capture"
	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/overlay"
)

// What a trace keeps of a packet: its headers, and what tells it from others.
const traceSnap = 256

func traceCommand() *cobra.Command {
	f := new(controlFlags)
	var l limits
	var r overlay.CaptureRequest
	var simulate bool
	var output string
	cmd := &cobra.Command{
		Use:   "trace [FILTER]",
		Short: "Show packets on their way over all hosts, and where they end",
		Long: "Show packets on their way over all hosts, and where they end: read from a container, sent to a host, received there, delivered or dropped,\n" +
			"and why. FILTER is as in tcpdump: tcp port 5432. Nothing is held up, and nothing but headers leaves a host. Times are each host's own.\n\n" +
			"    overlane trace -n app --from web --to db tcp port 5432\n" +
			"    overlane trace --simulate -n app web db\n\n" +
			"With --simulate no packet is sent: FROM and TO are containers' names or addresses, and what this host knows tells what would happen.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(l.check(), checkTraceOutput(output)); err != nil {
				return err
			}
			if simulate {
				return simulateTrace(cmd, f, r.Network, args, output)
			}
			r.Filter, r.Points, r.Snap, r.Opaque = strings.Join(args, " "), datapath.Points[:], traceSnap, true
			ctx, cancel := l.context(cmd.Context())
			defer cancel()
			t := newTracer(cmd.OutOrStdout(), cmd.ErrOrStderr(), l.count, output == "json")
			err := captureFrom(ctx, f.socket, r, t.take)
			if err != nil && !errors.Is(err, errEnough) {
				return err
			}
			return t.end()
		},
	}
	cmd.Flags().StringVarP(&r.Network, "network", "n", "", "of this network alone, by name, key or ID")
	cmd.Flags().StringVar(&r.From, "from", "", "between this container, by name or address, ...")
	cmd.Flags().StringVar(&r.To, "to", "", "... and this one, in both directions")
	cmd.Flags().StringSliceVar(&r.Hosts, "host", []string{"all"}, "hosts to look on, by name, or all; given several times, or comma separated")
	cmd.Flags().IntVar(&r.Sample, "sample", 1, "one packet in so many, the same ones on every host")
	cmd.Flags().BoolVar(&simulate, "simulate", false, "say what would become of a packet: overlane trace --simulate FROM TO")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text, or json: one event a line")
	l.add(cmd, 100, time.Minute)
	f.addSocket(cmd)
	return cmd
}

func checkTraceOutput(output string) error {
	if output != "text" && output != "json" {
		return fmt.Errorf("--output %q: want text or json", output)
	}
	return nil
}

// settled is how long after its first event all of a packet's have come in.
const settled = time.Second

// tracer puts events of the same packet together, and writes them.
type tracer struct {
	out, said io.Writer
	count     int // packets that are shown; 0: no limit
	json      bool
	shown     int
	ended     time.Time       // zero: it goes on
	open      []*tracedPacket // in order of their first events
	byID      map[string]*tracedPacket
	byFlow    map[string][]*tracedPacket
	told      map[string]string
	reports   map[string]capture.Report
	refused   map[[2]string]capture.Event // what a host has dropped last, of what comes from another, before it could look at a frame
}

// tracedPacket is a packet, with what it was cut into and merged with.
type tracedPacket struct {
	events []capture.Event
}

func newTracer(out, said io.Writer, count int, json bool) *tracer {
	return &tracer{
		out: out, said: said, count: count, json: json, told: map[string]string{}, refused: map[[2]string]capture.Event{},
		byID: map[string]*tracedPacket{}, byFlow: map[string][]*tracedPacket{},
	}
}

func (t *tracer) take(c captured) error {
	t.reports = c.Reports
	tellReports(t.said, c.Reports, t.told, false)
	for _, e := range c.Events {
		if !t.json {
			t.add(e)
			continue
		}
		if err := t.writeEvent(e); err != nil {
			return err
		}
	}
	return t.write(time.Now().Add(-settled))
}

// full says that as many packets have begun as are to be shown.
func (t *tracer) full() bool { return t.count > 0 && t.shown+len(t.open) >= t.count }

// writeEvent shows events of so many packets, and ends with the first of another one.
func (t *tracer) writeEvent(e capture.Event) error {
	if t.count > 0 && t.byID[e.Identity] == nil {
		if t.full() {
			return errEnough
		}
		t.shown++
		t.byID[e.Identity] = new(tracedPacket)
	}
	return json.NewEncoder(t.out).Encode(e)
}

func (t *tracer) add(e capture.Event) {
	if e.Identity == "" {
		t.refused[[2]string{e.Host, e.Peer}] = e
		return
	}
	found := t.byID[e.Identity]
	if found != nil {
		found.events = append(found.events, e)
	}
	for _, p := range t.byFlow[e.Flow] {
		if p != found && p.overlaps(e) {
			p.events = append(p.events, e)
			found = p
		}
	}
	if found != nil || t.full() {
		return
	}
	p := &tracedPacket{[]capture.Event{e}}
	t.open = append(t.open, p)
	t.byID[e.Identity] = p
	if e.Flow != "" {
		t.byFlow[e.Flow] = append(t.byFlow[e.Flow], p)
	}
}

// close forgets the first packet that is open.
func (t *tracer) close() {
	first := t.open[0].events[0]
	t.open = t.open[1:]
	delete(t.byID, first.Identity)
	if flow := t.byFlow[first.Flow]; len(flow) > 0 {
		t.byFlow[first.Flow] = flow[1:] // the oldest of the flow
	}
	if len(t.byFlow[first.Flow]) == 0 {
		delete(t.byFlow, first.Flow)
	}
}

// overlaps says whether an event of the same flow is about a part of the packet, or what it was merged into.
func (p *tracedPacket) overlaps(e capture.Event) bool {
	first := p.events[0]
	if e.Payload == 0 || first.Payload == 0 {
		return false
	}
	return e.Seq-first.Seq < uint32(first.Payload) || first.Seq-e.Seq < uint32(e.Payload)
}

// write shows the packets that began before a moment.
func (t *tracer) write(before time.Time) error {
	for len(t.open) > 0 && t.open[0].events[0].Time.Before(before) {
		if err := t.writePacket(t.open[0]); err != nil {
			return err
		}
		t.shown++
		t.close()
	}
	if t.count > 0 && t.shown == t.count {
		return errEnough
	}
	return nil
}

func (t *tracer) writePacket(p *tracedPacket) error {
	first := p.events[0]
	fmt.Fprintf(t.out, "%s  %s%s\n", first.Time.Format("15:04:05.000000"), first.Packet, in(first.Network))
	segments := map[string]int{}
	for _, e := range p.events {
		line := e.Host + "  " + e.What()
		if segments[line]++; segments[line] > 1 {
			continue // cut up, it is the same of each segment
		}
		fmt.Fprintf(t.out, "%9d µs  %s%s\n", e.Time.Sub(first.Time).Microseconds(), line, size(e))
	}
	_, err := fmt.Fprint(t.out, t.verdict(p.events))
	return err
}

func in(network string) string {
	if network == "" {
		return ""
	}
	return ", on " + network
}

// size tells of a super-frame.
func size(e capture.Event) string {
	if e.Segment == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d bytes, in segments of %d)", e.Len, e.Segment)
}

// verdict says why a packet's way ends where it does, if the events do not.
func (t *tracer) verdict(events []capture.Event) string {
	var sent *capture.Event
	for i, e := range events {
		switch e.Point {
		case datapath.PointSent:
			sent = &events[i]
		case datapath.PointReceived, datapath.PointDelivered, datapath.PointDropped:
			return ""
		}
	}
	if sent == nil || sent.Peer == "" {
		return ""
	}
	switch r, looked := t.reports[sent.Peer]; {
	case !t.ended.IsZero() && t.ended.Sub(sent.Time) < settled:
		return fmt.Sprintf("              the trace ended before it could be seen on %s\n", sent.Peer)
	case !looked || r.Silent || r.Error != "":
		return fmt.Sprintf("              %s was not looked at\n", sent.Peer)
	case r.Lost > 0:
		return fmt.Sprintf("              not seen on %s, which could not show all that it received\n", sent.Peer)
	}
	if e, is := t.refused[[2]string{sent.Peer, sent.Host}]; is && e.Time.Sub(sent.Time).Abs() < settled {
		return fmt.Sprintf("              NOT SEEN on %s: something that came from %s then was %s\n", sent.Peer, sent.Host, e.What())
	}
	return fmt.Sprintf("              NOT RECEIVED by %s: something between the hosts drops it, such as a firewall (UDP port %d) or a path for shorter packets\n", sent.Peer, sent.VTEP.Port())
}

// end shows what is still to be shown, and how it went.
func (t *tracer) end() error {
	t.ended = time.Now()
	if err := t.write(time.Now().Add(time.Hour)); err != nil && !errors.Is(err, errEnough) {
		return err
	}
	if t.json {
		return nil
	}
	fmt.Fprintf(t.said, "%d packets; %s\n", t.shown, lossText(t.reports))
	return nil
}
