package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/overlane/overlane/datapath"
)

const (
	alertsFile    = "../../contrib/monitoring/alerts.yml"
	dashboardFile = "../../contrib/monitoring/dashboard.json"
)

func mustReadFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What alerts look at is there.
func TestAlertsUseWhatIsServed(t *testing.T) {
	text, docs := mustReadFile(t, alertsFile), mustReadFile(t, "../../docs/operations.md")
	used := regexp.MustCompile(`overlane_[a-z_]+`).FindAllString(text, -1)
	for _, name := range used {
		if !strings.Contains(docs, "`"+name) {
			t.Errorf("docs/operations.md has no metric %s", name)
		}
	}
	for _, reasons := range regexp.MustCompile(`reason=~"([a-z_|]+)"`).FindAllStringSubmatch(text, -1) {
		for reason := range strings.SplitSeq(reasons[1], "|") {
			if datapath.DropReason(reason) == "" {
				t.Errorf("no drop is called %s", reason)
			}
		}
	}
	if len(used) < 8 {
		t.Errorf("only %v are used", used)
	}
}

// A Prometheus server takes the metrics and the alerts, and evaluates all that the dashboard shows: of each there is something.
func TestPrometheusEvaluatesAlertsAndDashboard(t *testing.T) {
	if said, err := exec.Command("promtool", "check", "rules", alertsFile).CombinedOutput(); err != nil {
		t.Fatalf("promtool: %v\n%s", err, said)
	}
	one := member(t, 1, nil)
	member(t, 2, nil, one.Self().Addr.String())
	scrape := httptest.NewServer(metricsOfEverything(one))
	defer scrape.Close()
	refuseOne(t, one.Self().Addr.String())
	p := startPrometheus(t, strings.TrimPrefix(scrape.URL, "http://"))
	within(t, "Prometheus has scraped a refused message several times, and has a rule's result", func() bool {
		scraped, err := p.query(`min(count_over_time(overlane_gossip_rejected_total[1m])) > 2`)
		return err == nil && len(scraped) > 0 && p.evaluated(t)
	})
	// A scrape that takes too long leaves no series until the next.
	gives := func(expression string) {
		within(t, "series of "+expression, func() bool { found, err := p.query(expression); return err == nil && len(found) > 0 })
	}
	for _, name := range metricsIn(mustReadFile(t, alertsFile) + mustReadFile(t, dashboardFile)) {
		gives(name)
	}
	shown := expressions(t)
	for _, expression := range shown {
		gives(expression)
	}
	if len(shown) < 30 {
		t.Errorf("the dashboard has only %d expressions", len(shown))
	}
}

// refuseOne has a host refuse a message.
func refuseOne(t *testing.T, at string) {
	t.Helper()
	conn, err := net.Dial("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("a message of somebody without the token")); err != nil {
		t.Fatal(err)
	}
}

// metricsIn gives overlane's metrics in a text, each once.
func metricsIn(text string) (names []string) {
	seen := map[string]bool{}
	for _, name := range regexp.MustCompile(`overlane_[a-z_]+`).FindAllString(text, -1) {
		if !seen[name] {
			names = append(names, name)
		}
		seen[name] = true
	}
	return names
}

// expressions are those of the dashboard, with what Grafana puts for its variables.
func expressions(t *testing.T) (all []string) {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(mustReadFile(t, dashboardFile)), &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			all = append(all, strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*").Replace(target.Expr))
		}
	}
	return all
}

// promServer is a server of Prometheus.
type promServer struct{ url string }

// startPrometheus has one scrape a host ten times a second, until the test ends.
func startPrometheus(t *testing.T, target string) promServer {
	t.Helper()
	dir := t.TempDir()
	alerts, err := filepath.Abs(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("global: {scrape_interval: 100ms, scrape_timeout: 100ms, evaluation_interval: 100ms}\nrule_files: [%q]\nscrape_configs: [{job_name: overlane, static_configs: [{targets: [%q]}]}]\n", alerts, target)
	if err := os.WriteFile(dir+"/prometheus.yml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var log lockedBuffer
	cmd := exec.Command("prometheus", "--config.file="+dir+"/prometheus.yml", "--storage.tsdb.path="+dir+"/data", "--web.listen-address=127.0.0.1:0")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	listens := regexp.MustCompile(`msg="Listening on" (?:component=web )?address=(\S+)`)
	var at []string
	within(t, "Prometheus listens", func() bool {
		at = listens.FindStringSubmatch(log.String())
		return at != nil
	})
	return promServer{"http://" + at[1]}
}

// get asks the server's API.
func (p promServer) get(path string, into any) error {
	answer, err := http.Get(p.url + path)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	var said struct {
		Status, Error string
		Warnings      []string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(answer.Body).Decode(&said); err != nil {
		return err
	}
	if said.Status != "success" || len(said.Warnings) > 0 {
		return fmt.Errorf("%s %s %q", said.Status, said.Error, said.Warnings)
	}
	return json.Unmarshal(said.Data, into)
}

func (p promServer) query(expression string) ([]json.RawMessage, error) {
	var data struct{ Result []json.RawMessage }
	err := p.get("/api/v1/query?query="+url.QueryEscape(expression), &data)
	return data.Result, err
}

// evaluated says whether all rules were; one that fails ends the test.
func (p promServer) evaluated(t *testing.T) bool {
	t.Helper()
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	if err := p.get("/api/v1/rules", &data); err != nil || len(data.Groups) == 0 {
		return false
	}
	for _, rule := range data.Groups[0].Rules {
		if rule.Health == "err" {
			t.Fatalf("rule %s: %s", rule.Name, rule.LastError)
		}
		if rule.Health != "ok" {
			return false
		}
	}
	return true
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(text)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
