//go:build lab

package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The example of an application on three hosts: its parts find each other by name, from outside through the published port. So they do with
// Docker's own addresses, each host having a range of its own.
func TestComposeApplication(t *testing.T) {
	c := cluster(t)
	ranges := filepath.Join(t.TempDir(), "ranges.yml")
	must(t, os.WriteFile(ranges, []byte(`{"networks": {"app": {"driver": "overlane", "ipam": {"driver": "default", "config": [{"subnet": "10.30.0.0/24", "ip_range": "${RANGE}"}]}}}}`), 0o600))
	for name, files := range map[string][]string{"overlane": {composeApp}, "Docker": {composeApp, ranges}} {
		t.Run(name+"'s addresses", func(t *testing.T) { testComposeApplication(t, c, files) })
	}
}

const composeApp = "../../contrib/compose/app.yml"

func testComposeApplication(t *testing.T, c *Cluster, files []string) {
	t.Helper()
	services := []string{"web", "api", "db"}
	containers := map[string]*Container{}
	for i, service := range services {
		composeOn(t, c.Hosts[i], files, "up", "-d", service)
		name, err := c.Hosts[i].Docker(t.Context(), "ps", "--filter", "label=com.docker.compose.service="+service, "--format", "{{.Names}}")
		must(t, err)
		containers[service] = &Container{Host: c.Hosts[i], Name: strings.TrimSpace(name)}
	}
	for i, service := range services {
		from, to := containers[service], services[(i+1)%len(services)]
		var page string
		must(t, Wait(t.Context(), settleTimeout, func(ctx context.Context) (err error) {
			page, err = from.Exec(ctx, "curl", "-sS", "--fail", "--max-time", "5", "http://"+to+"/")
			return err
		}))
		hostname, err := containers[to].Exec(t.Context(), "hostname")
		must(t, err)
		if page != hostname {
			t.Errorf("from %s, http://%s/ says %q, want %q", from.Name, to, page, hostname)
		}
	}
	shell(t, c.Hosts[0], "curl -sS --fail --max-time 5 http://localhost:8080/")
	for _, h := range c.Hosts {
		composeOn(t, h, files, "down")
		if networks := status(t, h).Networks; len(networks) != 0 {
			t.Errorf("%s: %+v is left", h.Name, networks)
		}
	}
}

// composeOn runs Compose with the example against a host's engine, and says which addresses are the host's where they are Docker's to give.
func composeOn(t *testing.T, h *Host, files []string, args ...string) {
	t.Helper()
	all := []string{"-p", "shop"}
	for _, file := range files {
		all = append(all, "-f", file)
	}
	cmd := composeCommand(t.Context(), append(all, args...)...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+h.proc("root/run/docker.sock"), fmt.Sprintf("RANGE=10.30.0.%d/26", h.Number*64))
	_, err := run(cmd)
	must(t, err)
}
