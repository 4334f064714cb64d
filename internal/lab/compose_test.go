//go:build lab

package lab

import (
	"context"
	"os"
	"strings"
	"testing"
)

// The example of an application on three hosts: its parts find each other by name, from outside through the published port.
func TestComposeApplication(t *testing.T) {
	c := cluster(t)
	composeOn(t, c.Hosts[0], "up", "-d", "web")
	composeOn(t, c.Hosts[1], "up", "-d", "api")
	composeOn(t, c.Hosts[2], "up", "-d", "db")
	find := func(h *Host, service string) *Container {
		name, err := h.Docker(t.Context(), "ps", "--filter", "label=com.docker.compose.service="+service, "--format", "{{.Names}}")
		must(t, err)
		return &Container{Host: h, Name: strings.TrimSpace(name)}
	}
	web, api, db := find(c.Hosts[0], "web"), find(c.Hosts[1], "api"), find(c.Hosts[2], "db")
	for _, tt := range []struct {
		from *Container
		to   string
		want *Container
	}{{web, "api", api}, {api, "db", db}, {db, "web", web}} {
		var page string
		must(t, Wait(t.Context(), settleTimeout, func(ctx context.Context) (err error) {
			page, err = tt.from.Exec(ctx, "curl", "-sS", "--fail", "--max-time", "5", "http://"+tt.to+"/")
			return err
		}))
		hostname, err := tt.want.Exec(t.Context(), "hostname")
		must(t, err)
		if page != hostname {
			t.Errorf("from %s, http://%s/ says %q, want %q", tt.from.Name, tt.to, page, hostname)
		}
	}
	shell(t, c.Hosts[0], "curl -sS --fail --max-time 5 http://localhost:8080/")
	for _, h := range c.Hosts {
		composeOn(t, h, "down")
		if networks := status(t, h).Networks; len(networks) != 0 {
			t.Errorf("%s: %+v is left", h.Name, networks)
		}
	}
}

// composeOn runs Compose with the example against a host's engine.
func composeOn(t *testing.T, h *Host, args ...string) {
	t.Helper()
	cmd := composeCommand(t.Context(), append([]string{"-p", "shop", "-f", "../../contrib/compose/app.yml"}, args...)...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+h.proc("root/run/docker.sock"))
	_, err := run(cmd)
	must(t, err)
}
