package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/overlane/overlane/internal/bubble"
)

func TestOutputs(t *testing.T) {
	socket := daemon(t, busy(t))
	asked := func(args ...string) (string, error) {
		return command(append([]string{"status", "--control-socket", socket}, args...)...)
	}
	text, err := asked("-o", "yaml")
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := yaml.YAMLToJSON([]byte(text))
	if err != nil || strings.HasPrefix(text, "{") {
		t.Fatalf("%v: not YAML: %s", err, text)
	}
	var s struct {
		Node struct{ Version string }
	}
	if err := json.Unmarshal(asJSON, &s); err != nil || s.Node.Version != "v1.2.3" {
		t.Errorf("%v: version %q in\n%s", err, s.Node.Version, text)
	}
	for template, want := range map[string]string{
		"{{.node.version}}": "v1.2.3\n",
		"{{range .networks}}{{.key}} {{.vni}} {{join .subnets \",\"}}{{println}}{{end}}": "vni=5000 5000 10.20.0.0/16\n",
		"{{json (index .networks 0).subnets}}":                                           "[\"10.20.0.0/16\"]\n",
	} {
		if got, err := asked("--format", template); err != nil || got != want {
			t.Errorf("%s gives %q, %v, want %q", template, got, err, want)
		}
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-o", "xml"}, `--output "xml": want table, json or yaml`},
		{[]string{"--format", "{{.node"}, "--format \"{{.node\": template"},
		{[]string{"--format", "{{.nodes.version}}"}, "-o json shows what there is"},
		{[]string{"--format", "{{.node}}", "-o", "json"}, "leave one of them out"},
	} {
		if got, err := asked(c.args...); err == nil || !strings.Contains(err.Error(), c.want) || got != "" {
			t.Errorf("%v gives %q, %v, want the error %q", c.args, got, err, c.want)
		}
	}
}

// On a screen each answer takes the place of the one before; what goes elsewhere is answers alone. One that fails ends nothing.
func TestWatch(t *testing.T) {
	for screen, want := range map[bool][2]string{true: {clearScreen + "first\n" + clearScreen + "not there\n", ""}, false: {"first\n", "not there\n"}} {
		bubble.Test(t, func(t *testing.T) {
			out, errs, err := watched(t, screen)
			if err != nil || out != want[0] || errs != want[1] {
				t.Errorf("screen %v: %v: %q and %q, want %q", screen, err, out, errs, want)
			}
		})
	}
}

func watched(t *testing.T, screen bool) (answered, failed string, err error) {
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs bytes.Buffer
	answers := 0
	err = watch(ctx, &out, &errs, screen, func(page io.Writer) error {
		answers++
		switch answers {
		case 1:
			fmt.Fprintln(page, "first")
			return nil
		case 2:
			return errors.New("not there")
		}
		cancel()
		fmt.Fprintln(page, "third")
		return nil
	})
	return out.String(), errs.String(), err
}
