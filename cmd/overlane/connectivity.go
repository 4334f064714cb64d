package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/overlane/overlane/connectivity"
	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/overlay"
)

func connectivityCommand() *cobra.Command {
	f := new(controlFlags)
	var spec connectivity.Spec
	cmd := &cobra.Command{
		Use:   "connectivity",
		Short: "Test whether containers of all hosts reach each other, and say of those that do not why",
		Long: "Test whether containers of all hosts reach each other, and say of those that do not why: by ping, UDP and TCP, with packets of up to the\n" +
			"MTU, over IPv4 and IPv6, and by name. Each host tries it from an endpoint that overlane makes for that, and that is gone afterwards; it\n" +
			"takes no image and no container, and half a minute at most. Of the containers that are there it says whose interface lacks what Docker gave it.\n" +
			"The exit status is 1 when something fails. With --egress the way out through Docker's bridge is tested from them; published ports are not.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return testConnectivity(cmd, f, spec) },
	}
	cmd.Flags().StringVarP(&spec.Network, "network", "n", "", "a network of this host, by name, key or subnet, with addresses that overlane hands out (default: one that is made for the test)")
	cmd.Flags().BoolVar(&spec.Egress, "egress", false, "test the way out, too: a container of each host pings the other hosts through Docker's bridge")
	f.addOutput(cmd)
	f.addSocket(cmd)
	return cmd
}

// testNews is a line of the daemon's answer: how far it is, and what came of it.
type testNews struct {
	Progress string               `json:"progress,omitempty"`
	Result   *connectivity.Result `json:"result,omitempty"`
	Error    string               `json:"error,omitempty"`
}

// errTestFailed ends the command with status 1. What failed is shown already.
var errTestFailed = errors.New("not all containers reach each other")

func testConnectivity(cmd *cobra.Command, f *controlFlags, spec connectivity.Spec) error {
	if err := f.checkOutput(); err != nil {
		return err
	}
	wish, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	progress := newProgress(cmd.ErrOrStderr())
	r, err := followTest(cmd.Context(), f.socket, wish, progress.show)
	progress.clear()
	if err != nil {
		return err
	}
	color := isTerminal(cmd.OutOrStdout())
	if err := write(cmd.OutOrStdout(), f, r, func(out io.Writer, r connectivity.Result) error { return writeConnectivity(out, r, color) }); err != nil {
		return err
	}
	if !r.OK {
		return errTestFailed
	}
	return nil
}

// followTest has the daemon test. It goes on as long as somebody reads its answer.
func followTest(ctx context.Context, path string, wish []byte, progress func(string)) (r connectivity.Result, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://overlane/connectivity", bytes.NewReader(wish))
	if err != nil {
		return r, err
	}
	answer, err := controlClient(path).Do(request)
	if err != nil {
		return r, unreachable(path, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(answer.Body)
		return r, errors.New(strings.TrimSpace(string(text)))
	}
	for news := json.NewDecoder(bufio.NewReader(answer.Body)); ; {
		var n testNews
		if err := news.Decode(&n); err != nil {
			return r, fmt.Errorf("the daemon on %s ended before the test did: %w", path, err)
		}
		switch {
		case n.Result != nil:
			return *n.Result, nil
		case n.Error != "":
			return r, errors.New(n.Error)
		}
		progress(n.Progress)
	}
}

// connectivity tests for as long as the client is there.
func (c *control) connectivity(w http.ResponseWriter, r *http.Request) {
	if c.ready(w) == nil {
		return
	}
	var spec connectivity.Spec
	if err := json.NewDecoder(io.LimitReader(r.Body, maxArgument)).Decode(&spec); err != nil {
		http.Error(w, fmt.Sprintf("what to test is not understood: %v", err), http.StatusBadRequest)
		return
	}
	io.Copy(io.Discard, r.Body) // else nobody notices that the client goes away
	news := json.NewEncoder(w)
	tell := func(n testNews) {
		news.Encode(n) // an error is the client's going away
		http.NewResponseController(w).Flush()
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	result, err := c.tests.Load().Test(r.Context(), spec, func(text string) { tell(testNews{Progress: text}) })
	if err != nil {
		tell(testNews{Error: err.Error()})
		return
	}
	tell(testNews{Result: &result})
}

// progress is a line on a terminal that is written over; elsewhere it is nothing.
type progress struct{ out io.Writer }

func newProgress(out io.Writer) progress {
	if !isTerminal(out) {
		return progress{io.Discard}
	}
	return progress{out}
}

// clearLine has a line of a terminal begin anew: ECMA-48, EL.
const clearLine = "\r\x1b[K"

func (p progress) show(text string) { fmt.Fprint(p.out, clearLine, text) }
func (p progress) clear()           { fmt.Fprint(p.out, clearLine) }

// checkColumns are the columns of the table, and the checks that each sums up. The last one is not always there.
var checkColumns = []struct {
	title string
	names []string
}{
	{"PING", []string{"ping"}}, {"SIZES", []string{"mtu"}}, {"TCP", []string{"tcp"}}, {"UDP", []string{"udp"}},
	{"IPV6", []string{"ping6", "mtu6", "tcp6", "udp6"}}, {"NAME", []string{"name"}}, {"EGRESS", []string{"egress"}},
}

// writeConnectivity writes a line for each host, with how many of the others it reaches, then what is not well, and what was dropped.
func writeConnectivity(out io.Writer, r connectivity.Result, color bool) error {
	from := map[string][]connectivity.PairResult{}
	for _, p := range r.Pairs {
		from[p.FromID] = append(from[p.FromID], p)
	}
	var parts []string
	if hosts := reachTable(r, from); hosts != "" {
		parts = append(parts, hosts)
	}
	for _, t := range troublesOf(r, from) {
		parts = append(parts, t.text(color))
	}
	if drops := dropsTable(r); drops != "" {
		parts = append(parts, drops)
	}
	_, err := fmt.Fprintln(out, strings.Join(append(parts, summary(r)), "\n"))
	return err
}

// reachTable is empty where no host was tested.
func reachTable(r connectivity.Result, from map[string][]connectivity.PairResult) string {
	columns := checkColumns
	if !slices.ContainsFunc(r.Pairs, func(p connectivity.PairResult) bool { return checkNamed(p, "egress") != nil }) {
		columns = columns[:len(columns)-1]
	}
	titles := []any{"HOST"}
	for _, c := range columns {
		titles = append(titles, c.title)
	}
	if !slices.ContainsFunc(r.Hosts, func(h connectivity.HostResult) bool { return h.Tested }) {
		return ""
	}
	return tabbed(func(w io.Writer) {
		row(w, append(titles, "MTU", "ADDRESSES")...)
		for _, h := range r.Hosts {
			if !h.Tested {
				continue
			}
			cells := []any{h.Host}
			for _, c := range columns {
				cells = append(cells, reached(from[h.ID], c.names))
			}
			row(w, append(cells, h.MTU, list(h.Addrs))...)
		}
	})
}

// dropsTable is empty where nothing unusual was dropped.
func dropsTable(r connectivity.Result) string {
	dropped := false
	table := tabbed(func(w io.Writer) {
		row(w, "DROPPED MEANWHILE", "ON", "PACKETS", "BECAUSE")
		for _, h := range r.Hosts {
			for _, name := range slices.Sorted(maps.Keys(h.Drops)) {
				if !connectivity.IsUsual(name) {
					row(w, name, h.Host, h.Drops[name], datapath.DropReason(name))
					dropped = true
				}
			}
		}
	})
	if !dropped {
		return ""
	}
	return table
}

// tabbed has rows written in columns.
func tabbed(rows func(io.Writer)) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	rows(w)
	w.Flush() // a strings.Builder takes all
	return text.String()
}

// trouble is what is not well for one reason.
type trouble struct {
	title string
	what  []string
	overlay.Health
}

// troublesOf are those of a test, each with all that it is the reason of.
func troublesOf(r connectivity.Result, from map[string][]connectivity.PairResult) (all []trouble) {
	add := func(title, what string, h overlay.Health) {
		i := slices.IndexFunc(all, func(t trouble) bool { return t.title == title && t.Health == h })
		if i < 0 {
			i, all = len(all), append(all, trouble{title, nil, h})
		}
		all[i].what = append(all[i].what, what)
	}
	for _, h := range r.Hosts {
		switch {
		case h.Absent:
			add("NOT TESTED", h.Host, overlay.Health{Reason: "it has no part in the network"})
		case h.Reason != "":
			add("NOT TESTED", h.Host, h.Health)
		}
		if h.Unnamed != "" {
			add("NO NAMES", h.Host, overlay.Health{Reason: "containers that it starts are found by address alone: " + h.Unnamed, Advice: "see docs/names.md"})
		}
		if why := noEgress(from[h.ID]); why != "" {
			add("NO EGRESS TESTED", h.Host, overlay.Health{Reason: why})
		}
	}
	for _, p := range r.Pairs {
		if !p.OK {
			add("FAILED", fmt.Sprintf("%s to %s: %s", p.From, p.To, strings.Join(failedChecks(p.Checks), ",")), p.Health)
		}
	}
	for _, h := range r.Hosts {
		for _, p := range h.Unwell {
			add("NOT WELL", fmt.Sprintf("%s, host %s", p.What, h.Host), p.Health)
		}
		if h.MoreUnwell > 0 {
			add("NOT WELL", fmt.Sprintf("%d more containers, host %s", h.MoreUnwell, h.Host), overlay.Health{Reason: "there are too many to list", Advice: "see `overlane check` there"})
		}
	}
	return all
}

// Colours of a terminal: ECMA-48, SGR.
const (
	inRed   = "\x1b[31m"
	inPlain = "\x1b[0m"
)

// text is a line for each that is not well, and then the reason and the next step, which may be long.
func (t trouble) text(color bool) string {
	var text strings.Builder
	for i, what := range t.what {
		title := t.title
		if i > 0 {
			title = ""
		}
		fmt.Fprintf(&text, "%-*s  %s\n", len(t.title), title, what)
	}
	fmt.Fprintf(&text, "  because  %s\n", t.Reason)
	if t.Advice != "" {
		fmt.Fprintf(&text, "  next     %s\n", t.Advice)
	}
	if color && !strings.HasPrefix(t.title, "NO ") { // that is no failure
		return inRed + text.String() + inPlain
	}
	return text.String()
}

// checkNamed is one of a pair's checks; nil: it was not asked for.
func checkNamed(p connectivity.PairResult, name string) *connectivity.Check {
	if i := slices.IndexFunc(p.Checks, func(c connectivity.Check) bool { return c.Name == name }); i >= 0 {
		return &p.Checks[i]
	}
	return nil
}

// noEgress is why a host's way out was tested with none of the others; empty: it was, or nobody asked for it.
func noEgress(pairs []connectivity.PairResult) (why string) {
	for _, p := range pairs {
		c := checkNamed(p, "egress")
		if c == nil || c.Skipped == "" {
			return ""
		}
		why = c.Skipped
	}
	return why
}

// reached says of how many pairs some checks went well, and of how many they were made.
func reached(pairs []connectivity.PairResult, names []string) string {
	good, all := 0, 0
	for _, p := range pairs {
		tried, failed := false, false
		for _, c := range p.Checks {
			if slices.Contains(names, c.Name) && c.Skipped == "" {
				tried, failed = true, failed || !c.OK
			}
		}
		if tried {
			all++
		}
		if tried && !failed {
			good++
		}
	}
	if all == 0 {
		return ""
	}
	return fmt.Sprintf("%d/%d", good, all)
}

func failedChecks(checks []connectivity.Check) (names []string) {
	for _, c := range checks {
		if c.Problem != "" {
			names = append(names, c.Name)
		}
	}
	return names
}

func summary(r connectivity.Result) string {
	tested, failed, unwell := 0, 0, 0
	for _, h := range r.Hosts {
		unwell += len(h.Unwell) + h.MoreUnwell
		if h.Tested {
			tested++
		}
	}
	for _, p := range r.Pairs {
		if !p.OK {
			failed++
		}
	}
	on := "network " + r.Network
	if r.Own {
		on = "a network made for the test"
	}
	text := fmt.Sprintf("%d of %d hosts tested on %s in %.1f s", tested, len(r.Hosts), on, r.Seconds)
	if r.Sample > 0 {
		text += fmt.Sprintf(", each with at least %d others chosen at random, since there are so many", r.Sample)
	}
	switch untested := len(r.Hosts) - tested; {
	case failed > 0:
		text += fmt.Sprintf(": %d of %d ways from host to host fail", failed, len(r.Pairs))
	case untested > 0 && tested < 2:
		text += fmt.Sprintf(": %d could not be, so that nothing is known", untested)
	case untested > 0:
		text += fmt.Sprintf(": these reach each other, %d could not be tested", untested)
	default:
		text += ": all of these reach each other"
	}
	if unwell > 0 {
		text += fmt.Sprintf("; containers that are not well: %d", unwell)
	}
	return text
}

// isTerminal says whether somebody sees what is written.
func isTerminal(out any) bool {
	file, is := out.(*os.File)
	return is && term.IsTerminal(int(file.Fd()))
}
