package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/engine"
	"github.com/overlane/overlane/networks"
	"github.com/overlane/overlane/overlay/overlaytest"
)

// oneEngine has at most one network, on which there are no containers.
type oneEngine struct{ network *engine.Network }

func (e *oneEngine) Driver(context.Context) (string, error) { return "overlane", nil }

func (e *oneEngine) List(context.Context) (all []engine.Network, err error) {
	if e.network != nil {
		all = append(all, *e.network)
	}
	return all, nil
}

func (e *oneEngine) Create(_ context.Context, name string, spec engine.Spec) (string, error) {
	if spec.Options["vni"] == "0" {
		return "", errors.New(`option vni="0": want a number from 1 to 16777215`)
	}
	e.network = &engine.Network{ID: "net1", Name: name, Spec: spec}
	return "net1", nil
}

func (e *oneEngine) Remove(context.Context, string) error {
	e.network = nil
	return nil
}

func (e *oneEngine) Inspect(context.Context, string) (engine.Network, error) { return *e.network, nil }

func (e *oneEngine) Users(context.Context, engine.Network) ([]string, error) { return nil, nil }

// networkDaemon serves a host without others, whose engine it is.
func networkDaemon(t *testing.T, e networks.Engine) *networks.Manager {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	m := networks.Open(networks.Config{Dir: t.TempDir(), Engine: e, Ready: func() error { return nil }, Log: log})
	m.Attach(overlaytest.NewCluster())
	t.Cleanup(m.Close)
	return m
}

func has(m map[string]string, key string) bool {
	_, has := m[key]
	return has
}

func TestNetworkCommands(t *testing.T) {
	e := &oneEngine{}
	path := daemonWith(t, busy(t), networkDaemon(t, e))
	run := func(args ...string) string {
		t.Helper()
		out, err := command(append(append([]string{"network"}, args...), "--control-socket", path)...)
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return out
	}
	refused := func(want string, args ...string) {
		t.Helper()
		if _, err := command(append(append([]string{"network"}, args...), "--control-socket", path)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %s", args, err, want)
		}
	}
	refused(`--subnet "10.1"`, "create", "app", "--subnet", "10.1")
	refused(`--gateway "10.2.0.1": want one within a --subnet`, "create", "app", "--subnet", "10.1.0.0/16", "--gateway", "10.2.0.1")
	refused(`--gateway "10.1.0.2": subnet 10.1.0.0/16 has 10.1.0.1 already`, "create", "app", "--subnet", "10.1.0.0/16", "--gateway", "10.1.0.1", "--gateway", "10.1.0.2")
	refused(`option vni="0"`, "create", "app", "--subnet", "10.1.0.0/16", "-o", "vni=0")
	refused(`--only "host9"`, "create", "app", "--subnet", "10.1.0.0/16", "--only", "host9")
	refused("none of those that are everywhere", "rm", "app")
	refused("none of those that are everywhere", "inspect", "app")

	if out := run("create", "app", "--subnet", "10.1.0.0/16", "--gateway", "10.1.0.1", "--ip-range", "10.1.1.0/24", "--internal", "--label", "a=b=c,d", "--label", "flag", "-o", "vni=5000"); out != "network app is on all of its hosts\n" {
		t.Errorf("create said %q", out)
	}
	if got := e.network; !got.Internal || got.Options["vni"] != "5000" || got.Options["everywhere"] != "true" || got.Labels["a"] != "b=c,d" || !has(got.Labels, "flag") ||
		got.IPAM.Driver != "overlane" || got.IPAM.Config[0].Gateway != "10.1.0.1" || got.IPAM.Config[0].IPRange != "10.1.1.0/24" {
		t.Errorf("the engine has %+v", got)
	}
	if out := run("ls"); !strings.Contains(out, "app") || !strings.Contains(out, "10.1.0.0/16") {
		t.Errorf("ls says\n%s", out)
	}
	if out := run("inspect", "app"); !strings.Contains(out, "everywhere=true vni=5000") || !strings.Contains(out, overlaytest.Self.Host) {
		t.Errorf("inspect says\n%s", out)
	}
	if out := run("rm", "app"); out != "network app is gone from all of its hosts\n" || e.network != nil {
		t.Errorf("rm said %q; the engine has %v", out, e.network)
	}
}

func TestNetworksWithoutTheEngine(t *testing.T) {
	path := daemonWith(t, busy(t), networkDaemon(t, nil))
	if _, err := command("network", "create", "app", "--subnet", "10.1.0.0/16", "--control-socket", path); err == nil || !strings.Contains(err.Error(), "--docker-socket") {
		t.Errorf("got %v", err)
	}
}
