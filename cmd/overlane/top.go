package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/overlay"
)

// topInterval is between two looks: rates are those of the time between.
const topInterval = time.Second

func topCommand() *cobra.Command {
	f := new(controlFlags)
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show what moves now: containers and hosts by rate, drops as they happen, and how busy the workers are",
		Long: "Show what moves now: containers and other hosts by rate, drops as they happen, and how busy the workers are. Keys sort: t by all bits, r by\n" +
			"received ones, s by sent ones, p by packets, n by name; q quits. Where the output is no terminal it shows one second and ends.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, is := cmd.OutOrStdout().(*os.File)
			if !is || !isTerminal(out) {
				return topOnce(cmd.Context(), cmd.OutOrStdout(), f.socket, topInterval)
			}
			return topLive(cmd.Context(), out, f.socket)
		},
	}
	f.addSocket(cmd)
	return cmd
}

// sample is what the daemon has counted at a moment.
type sample struct {
	At        time.Time                 `json:"at"`
	Host      string                    `json:"host"`
	Endpoints []overlay.EndpointTraffic `json:"endpoints"`
	Hosts     []overlay.HostTraffic     `json:"hosts"`
	Underlay  datapath.Traffic          `json:"underlay"`
	Drops     map[string]uint64         `json:"drops"`
	CPUs      []int                     `json:"cpus"` // of each worker
	Ran       []time.Duration           `json:"ran_ns"`
	Bursts    []datapath.WorkerBursts   `json:"bursts"`
}

func (c *control) top(w http.ResponseWriter, _ *http.Request) {
	o := c.ready(w)
	if o == nil {
		return
	}
	stats := o.Counted()
	s := sample{At: time.Now(), Host: o.Host(), Underlay: stats.Underlay, Drops: stats.Drops, CPUs: stats.Workers, Ran: stats.Ran, Bursts: stats.Bursts}
	s.Endpoints, s.Hosts = o.TrafficOf(stats)
	answer(w, s)
}

// topOnce writes what moves in one interval.
func topOnce(ctx context.Context, out io.Writer, socket string, interval time.Duration) error {
	t := newTop()
	for i := range 2 {
		if i > 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(interval):
			}
		}
		s, err := fetch[sample](ctx, socket, "top")
		if err != nil {
			return err
		}
		t.take(s)
	}
	_, err := io.WriteString(out, t.page(plainWidth, 0))
	return err
}

// What a terminal is told: to show another screen without a cursor, and the first one again (DEC private modes 1049 and 25); to go to its beginning, to
// clear the rest of a line, and the rest of the screen (ECMA-48: CUP, EL, ED).
const (
	otherScreen = "\x1b[?1049h\x1b[?25l"
	firstScreen = "\x1b[?25h\x1b[?1049l"
	toBegin     = "\x1b[H"
	clearRest   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

// topLive shows it until somebody quits.
func topLive(ctx context.Context, out *os.File, socket string) error {
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer cancel()
	keys := make(chan byte)
	if in := int(os.Stdin.Fd()); term.IsTerminal(in) {
		before, err := term.MakeRaw(in)
		if err != nil {
			return fmt.Errorf("terminal: %w", err)
		}
		defer term.Restore(in, before)
		go readKeys(os.Stdin, keys)
	}
	fmt.Fprint(out, otherScreen)
	defer fmt.Fprint(out, firstScreen)
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	size := func() (width, height int) {
		width, height, err := term.GetSize(int(out.Fd()))
		if err != nil {
			return plainWidth, 24
		}
		return width, height
	}
	take := func() (sample, error) { return fetch[sample](ctx, socket, "top") }
	ticker := time.NewTicker(topInterval)
	defer ticker.Stop()
	return newTop().run(ctx, out, events{keys, resized, ticker.C}, size, take)
}

func readKeys(in io.Reader, keys chan<- byte) {
	for reader := bufio.NewReader(in); ; {
		key, err := reader.ReadByte()
		if err != nil {
			return
		}
		keys <- key
	}
}

// events are what has a page shown anew.
type events struct {
	keys    <-chan byte
	resized <-chan os.Signal
	ticks   <-chan time.Time
}

// run shows a page with each event, until one quits or ctx ends. A daemon that does not answer is said, and asked again.
func (t *top) run(ctx context.Context, out io.Writer, on events, size func() (width, height int), take func() (sample, error)) error {
	look := func() {
		s, err := take()
		t.failure = err
		if err == nil {
			t.take(s)
		}
	}
	look()
	for {
		width, height := size()
		if _, err := io.WriteString(out, onScreen(t.page(width, height))); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case key := <-on.keys:
			if !t.press(key) {
				return nil
			}
		case <-on.resized:
		case <-on.ticks:
			look()
		}
	}
}
