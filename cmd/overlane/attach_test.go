package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/overlane/overlane/overlay"
)

func TestAttachAndDetach(t *testing.T) {
	socket := daemon(t, busy(t))
	say := func(args string) string {
		t.Helper()
		said, err := command(append(strings.Fields(args), "--control-socket", socket)...)
		if err != nil {
			return err.Error()
		}
		return said
	}
	for _, step := range []struct {
		args string
		want []string
	}{
		{"attach", []string{"ATTACHED TO"}},
		{"attach --name x", []string{"give NETWORK"}},
		{"attach a b", []string{"at most 1"}},
		{"attach vni=5000", []string{"--address", "10.20.0.0/16"}},
		{"attach vni=5000 --address 10.20.0.7,fd00::1", []string{"fd00::1", "in no subnet"}},
		{"attach vni=5000 --address 10.20.0.7 --name db", []string{"vni=5000", "ol-5000", "10.20.0.7/16", "db"}},
		{"attach", []string{"vni=5000", "ol-5000", "10.20.0.7/16", "db"}},
		{"status", []string{"this host itself", "ol-5000"}},
		{"detach", []string{"one NETWORK"}},
		{"detach vni=5000 --all", []string{"one NETWORK"}},
		{"detach --left", []string{"a daemon answers", "--all"}},
		{"detach nosuch", []string{"nosuch", "not attached"}},
		{"detach vni=5000", []string{"ol-5000", "10.20.0.7/16"}},
		{"detach --all", []string{"attached to no network"}},
	} {
		said := say(step.args)
		for _, want := range step.want {
			if !strings.Contains(said, want) {
				t.Errorf("overlane %s: no %q in %s", step.args, want, said)
			}
		}
	}
	var made []overlay.Attachment
	if err := json.Unmarshal([]byte(say("attach vni=5000 --address 10.20.0.7 -o json")), &made); err != nil || len(made) != 1 || made[0].Interface != "ol-5000" {
		t.Errorf("as JSON: %+v (%v)", made, err)
	}
}
