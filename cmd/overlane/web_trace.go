package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/overlane/overlane/capture"
	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/internal/page"
	"github.com/overlane/overlane/overlay"
)

// webTracePackets is how many packets a trace of the page shows.
const webTracePackets = 50

// webTrace says what `overlane trace --simulate` does, and then shows packets as `overlane trace`.
func (c *control) webTrace(ctx context.Context, q page.TraceQuery, out io.Writer) error {
	status, err := c.webStatus()
	if err != nil {
		return err
	}
	s, err := simulate(&status, q.Network, q.From, q.To)
	if err != nil {
		return err
	}
	if err := s.write(out, nil); err != nil || !q.Packets {
		return err
	}
	fmt.Fprintln(out)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.streams, cancel)()
	t := newTracer(out, out, webTracePackets, false)
	request := overlay.CaptureRequest{Network: q.Network, From: q.From, To: q.To, Hosts: []string{"all"}, Points: datapath.Points[:], Sample: 1, Snap: traceSnap, Opaque: true}
	err = c.overlay.Load().Capture(ctx, request, func(packets []capture.Packet, events []capture.Event, reports map[string]capture.Report) error {
		return t.take(captured{packets, events, reports})
	})
	if err != nil && ctx.Err() == nil && !errors.Is(err, errEnough) {
		return err
	}
	return t.end()
}
