package page_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/internal/page"
	"github.com/overlane/overlane/internal/page/simulated"
	"github.com/overlane/overlane/overlay"
)

// serve gives the address at which a page is served until the test ends.
func serve(t *testing.T, cfg page.Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := page.New(cfg)
	served := make(chan error, 1)
	go func() { served <- p.Serve(l) }()
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}

// ask gives an answer and its body, to a request that change has made what it is to be.
func ask(t *testing.T, url string, change func(*http.Request)) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(body)
}

// clientAt is a browser that has an address.
func clientAt(t *testing.T, ip net.IP) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: ip}}).DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// waitFor waits until a condition holds.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not come: %s", what)
		}
	}
}

func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

// A site whose name was made to lead to the page reads nothing.
func TestOtherNamesAreRefused(t *testing.T) {
	url := serve(t, page.Config{Source: simulated.New(3).Source(), Host: "Blue"})
	for host, want := range map[string]int{
		"127.0.0.1:9751": http.StatusOK, "[::1]:9751": http.StatusOK, "localhost": http.StatusOK, "LOCALHOST:80": http.StatusOK, "blue:9751": http.StatusOK, "192.0.2.1": http.StatusOK,
		"evil.example:9751": http.StatusMisdirectedRequest, "127.0.0.1.evil.example": http.StatusMisdirectedRequest, "blue.evil.example": http.StatusMisdirectedRequest, "localhost.": http.StatusMisdirectedRequest,
	} {
		for _, path := range []string{"/", "/api/state", "/api/history"} {
			if answer, body := ask(t, url+path, func(r *http.Request) { r.Host = host }); answer.StatusCode != want {
				t.Errorf("%s of %s: %s: %s", path, host, answer.Status, body)
			}
		}
	}
}

func TestPassword(t *testing.T) {
	const right = "correct horse battery"
	password, err := page.NewPassword(right)
	if err != nil {
		t.Fatal(err)
	}
	url := serve(t, page.Config{Source: simulated.New(3).Source(), Password: password})
	basic := func(password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth("anybody", password) }
	}
	for _, path := range []string{"/", "/main.js", "/api/state", "/api/history"} {
		answer, body := ask(t, url+path, nil)
		if answer.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(answer.Header.Get("WWW-Authenticate"), "Basic ") || strings.Contains(body, "host01") {
			t.Errorf("%s without a password: %s: %s", path, answer.Status, body)
		}
		if answer, _ := ask(t, url+path, basic(right)); answer.StatusCode != http.StatusOK {
			t.Errorf("%s with the password: %s", path, answer.Status)
		}
		if answer, _ := ask(t, url+path, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+right) }); answer.StatusCode != http.StatusOK {
			t.Errorf("%s with the password as a token: %s", path, answer.Status)
		}
	}
	waitFor(t, "who tries many passwords is told to wait", func() bool {
		answer, _ := ask(t, url+"/", basic("correct horse batterx"))
		if answer.StatusCode == http.StatusOK {
			t.Fatal("a wrong password was taken")
		}
		return answer.StatusCode == http.StatusTooManyRequests
	})
	if answer, _ := ask(t, url+"/", basic(right)); answer.StatusCode != http.StatusOK {
		t.Errorf("the right password, from the address of one that gives wrong ones: %s", answer.Status)
	}
	waitFor(t, "who guesses fast is not told when he is right", func() bool {
		for range 20 {
			ask(t, url+"/", basic("correct horse batterx"))
		}
		answer, _ := ask(t, url+"/", basic(right))
		return answer.StatusCode == http.StatusTooManyRequests
	})
	elsewhere := clientAt(t, net.IPv4(127, 0, 0, 2))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	basic(right)(r)
	answer, err := elsewhere.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("beside somebody who guesses, the right password of another: %s", answer.Status)
	}
	waitFor(t, "who has guessed gets in with the right password after a while", func() bool {
		answer, _ := ask(t, url+"/", basic(right))
		return answer.StatusCode == http.StatusOK
	})
}

func TestPasswordFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if _, err := page.ReadPassword(write("good", "0123456789abcdef\nmore\n", 0o600)); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]string{
		write("open", "0123456789abcdef\n", 0o644): "run chmod o=",
		write("short", "0123456789\n", 0o600):      "10 characters",
		write("empty", "", 0o600):                  "0 characters",
		filepath.Join(dir, "none"):                 "no such file",
	} {
		if _, err := page.ReadPassword(path); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "0123456789") {
			t.Errorf("%s: %v; want %s", path, err, want)
		}
	}
}

// A browser runs nothing that is not the page's own, shows the page in no other, and gives no other site what it says.
func TestBrowsersAreHeldToThePage(t *testing.T) {
	url := serve(t, page.Config{Source: simulated.New(3).Source()})
	for _, path := range []string{"/", "/main.js", "/api/state", "/none"} {
		answer, _ := ask(t, url+path, func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") })
		h := answer.Header
		policy := h.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: policy %q", path, policy)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Access-Control-Allow-Origin") != "" || h.Get("Set-Cookie") != "" {
			t.Errorf("%s: headers %v", path, h)
		}
	}
	if answer, _ := ask(t, url+"/api/state", func(r *http.Request) { r.Method = http.MethodPost }); answer.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %s", answer.Status)
	}
	answer, _ := ask(t, url+"/main.js", nil)
	if again, _ := ask(t, url+"/main.js", func(r *http.Request) { r.Header.Set("If-None-Match", answer.Header.Get("ETag")) }); again.StatusCode != http.StatusNotModified {
		t.Errorf("a browser that has a file gets it again: %s", again.Status)
	}
}

// What the status says is shown: of a host that is down too, with the reason and the next step.
func TestState(t *testing.T) {
	url := serve(t, page.Config{Source: simulated.New(7).Source()})
	var state page.State
	waitFor(t, "there are rates", func() bool {
		_, body := ask(t, url+"/api/state", nil)
		state = decode[page.State](t, body)
		return state.Underlay.RxBytes > 0
	})
	if len(state.Hosts) != 7 || len(state.Networks) != 6 || len(state.Containers) != 56 || state.Node.Host != "host01" {
		t.Fatalf("%d hosts, %d networks, %d containers, of %s", len(state.Hosts), len(state.Networks), len(state.Containers), state.Node.Host)
	}
	self, other, down := state.Hosts[0], state.Hosts[1], state.Hosts[3]
	if !self.Self || self.Rate != nil || other.Rate == nil || other.Rate.RxBytes <= 0 || other.MTU != 1500 || other.Containers != 8 {
		t.Errorf("this host %+v, another one %+v", self, other)
	}
	if down.State != discovery.StateDead || !strings.Contains(down.Reason, "last seen") || len(state.Problems) != 2 || !strings.Contains(state.Problems[0].Advice, "start overlane there") {
		t.Errorf("host %+v, problems %+v", down, state.Problems)
	}
	for _, c := range state.Containers {
		if known := c.Rate != nil; known != c.Here {
			t.Errorf("container %s of %s: its rate is known: %v", c.Name, c.Host, known)
		}
		if hidden := c.State != ""; hidden != (c.Host == "host04") {
			t.Errorf("container %s of %s is %q", c.Name, c.Host, c.State)
		}
	}
	if n := state.Networks[0]; n.Name != "web-net" || n.Hosts != 7 || n.Containers != 14 || n.Rate.TxBytes <= 0 {
		t.Errorf("network %+v", n)
	}
}

// Traffic is told as the container sees it, and a counter that begins anew is none that ran backwards.
func TestRatesAndHistory(t *testing.T) {
	var packets atomic.Uint64
	stats := func() datapath.Stats {
		n := packets.Add(1000)
		return datapath.Stats{Ports: []datapath.PortStats{{Name: "ov1", Traffic: datapath.Traffic{RxBytes: 10 * n, TxBytes: n}}}, Drops: map[string]uint64{"fdb_miss": n, "malformed": 0}}
	}
	status := func() (overlay.Status, error) {
		return overlay.Status{Endpoints: []overlay.EndpointStatus{{Endpoint: overlay.Endpoint{ID: "1"}, Tap: "ov1", HasPort: true}}, Datapath: stats()}, nil
	}
	url := serve(t, page.Config{Source: page.Source{Status: status, Stats: stats}})
	var history page.History
	waitFor(t, "there is a past", func() bool {
		_, body := ask(t, url+"/api/history", nil)
		history = decode[page.History](t, body)
		return len(history.Times) >= 2
	})
	if len(history.Drops) != 1 || history.Drops["fdb_miss"][1] <= 0 {
		t.Errorf("history %+v", history)
	}
	_, body := ask(t, url+"/api/state", nil)
	state := decode[page.State](t, body)
	if c := state.Containers[0]; c.Rate == nil || c.Rate.TxBytes < 9*c.Rate.RxBytes || len(state.Drops) != 1 || state.Drops[0].Because == "" {
		t.Errorf("container %+v, drops %+v", c, state.Drops)
	}
	packets.Store(0)
	waitFor(t, "the counters have begun anew", func() bool {
		_, body := ask(t, url+"/api/history", nil)
		now := decode[page.History](t, body)
		for _, rate := range now.Drops["fdb_miss"] {
			if rate < 0 {
				t.Fatalf("packets are dropped at a rate of %v", rate)
			}
		}
		return len(now.Times) > len(history.Times)+1
	})
}

// A trace says how a packet would go; packets are shown to who has given a password, and no other site's page can ask.
func TestTrace(t *testing.T) {
	password, err := page.NewPassword("correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	open, closed := serve(t, page.Config{Source: simulated.New(3).Source()}), serve(t, page.Config{Source: simulated.New(3).Source(), Password: password})
	post := func(kind, body string) func(*http.Request) {
		return func(r *http.Request) {
			r.Method, r.Body = http.MethodPost, io.NopCloser(strings.NewReader(body))
			r.Header.Set("Content-Type", kind)
			r.SetBasicAuth("any", "correct horse battery")
		}
	}
	const query = `{"network": "network=web-net", "from": "10.20.0.2", "to": "10.20.1.2"}`
	if answer, body := ask(t, open+"/api/trace", post("application/json", query)); answer.StatusCode != http.StatusOK || !strings.Contains(body, "It arrives") || strings.Contains(body, "ICMP") || !strings.Contains(body, "--web-password-file") {
		t.Errorf("without a password: %s: %s", answer.Status, body)
	}
	if answer, body := ask(t, closed+"/api/trace", post("application/json", query)); answer.StatusCode != http.StatusOK || !strings.Contains(body, "ICMP 10.20.0.2 > 10.20.1.2") {
		t.Errorf("with a password: %s: %s", answer.Status, body)
	}
	if answer, _ := ask(t, closed+"/api/trace", post("text/plain", query)); answer.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("what any site's page may send: %s", answer.Status)
	}
	if answer, body := ask(t, closed+"/api/trace", post("application/json", "{")); answer.StatusCode != http.StatusBadRequest {
		t.Errorf("half a query: %s: %s", answer.Status, body)
	}
}

// One trace is under way at a time, and it ends with who looks at it.
func TestTracesEnd(t *testing.T) {
	source, ended := simulated.New(3).Source(), make(chan struct{}, 1)
	source.Trace = func(ctx context.Context, _ page.TraceQuery, out io.Writer) error {
		io.WriteString(out, "begun\n")
		<-ctx.Done()
		ended <- struct{}{}
		return nil
	}
	url := serve(t, page.Config{Source: source})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	begin := func(ctx context.Context) *http.Response {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/trace", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	one := begin(ctx)
	defer one.Body.Close()
	if _, err := io.ReadFull(one.Body, make([]byte, len("begun"))); err != nil {
		t.Fatal(err)
	}
	if another := begin(t.Context()); another.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("beside another trace: %s", another.Status)
	}
	stop() // as a page does that then asks for another pair
	again, stopAgain := context.WithCancel(t.Context())
	defer stopAgain()
	if next := begin(again); next.StatusCode != http.StatusOK {
		t.Errorf("behind a trace that was broken off: %s", next.Status)
	}
	<-ended
	stopAgain()
	<-ended
}

// While there is nothing to show, the page says why.
func TestWhyThereIsNothing(t *testing.T) {
	why := errors.New("overlane waits for this host's address: there is no default route")
	url := serve(t, page.Config{Source: page.Source{Status: func() (overlay.Status, error) { return overlay.Status{}, why }, Stats: func() datapath.Stats { return datapath.Stats{} }}})
	if answer, body := ask(t, url+"/api/state", nil); answer.StatusCode != http.StatusServiceUnavailable || strings.TrimSpace(body) != why.Error() {
		t.Errorf("%s: %s", answer.Status, body)
	}
	if answer, body := ask(t, url+"/", nil); answer.StatusCode != http.StatusOK || !strings.Contains(body, "<title>overlane</title>") {
		t.Errorf("%s: %s", answer.Status, body)
	}
}
