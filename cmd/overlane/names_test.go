package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/overlane/overlane/names"
	"github.com/overlane/overlane/overlay"
)

func TestResolutionsAreShown(t *testing.T) {
	found := []overlay.Resolution{
		{Name: "db", Network: "subnet=10.20.0.0/16", Called: "app", Addrs: []netip.Addr{netip.MustParseAddr("10.20.0.2")}, Host: "host1", Answers: true, Reason: "its host told of it"},
	}
	var out strings.Builder
	if err := writeResolutions(&out, "db", found); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"db", "app", "10.20.0.2", "host1", "yes", "its host told of it"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("no %q in\n%s", part, out.String())
		}
	}
	out.Reset()
	if err := writeResolutions(&out, "nobody", nil); err != nil || !strings.Contains(out.String(), "nobody") || !strings.Contains(out.String(), "Docker's server") {
		t.Errorf("%v: %s", err, out.String())
	}
}

func TestNamesInStatus(t *testing.T) {
	for _, tt := range []struct {
		status overlay.NamesStatus
		want   []string
	}{
		{overlay.NamesStatus{Status: names.Off{Reason: "no sk_lookup"}.Status()}, []string{"off", "no sk_lookup"}},
		{overlay.NamesStatus{Status: names.Status{Containers: 7}, Engine: "no engine answers on /x"}, []string{"7 containers", "no engine answers on /x"}},
	} {
		for _, part := range tt.want {
			if text := namesOf(tt.status); !strings.Contains(text, part) {
				t.Errorf("%q lacks %q", text, part)
			}
		}
	}
}
