package main

import (
	"encoding/json"
	"os"
	"slices"
	"testing"
)

// The managed plugin's users set by `docker plugin set` what others give as flags: config.json has each, with its default.
func TestPluginHasEverySetting(t *testing.T) {
	type env struct {
		Name        string   `json:"name"`
		Description string   `json:"description"`
		Settable    []string `json:"settable"`
		Value       *string  `json:"value"`
	}
	text, err := os.ReadFile("../../config.json")
	if err != nil {
		t.Fatal(err)
	}
	var config struct{ Env []env }
	if err := json.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	var want []env
	for _, s := range daemonSettings {
		want = append(want, env{Name: s.env(), Description: s.usage, Settable: []string{"value"}, Value: &s.initial})
	}
	same := func(a, b env) bool {
		return a.Name == b.Name && a.Description == b.Description && slices.Equal(a.Settable, b.Settable) && a.Value != nil && *a.Value == *b.Value
	}
	if !slices.EqualFunc(config.Env, want, same) {
		text, _ := json.MarshalIndent(want, "", "  ")
		t.Errorf("env in config.json is not what the daemon's flags are. It should be:\n%s", text)
	}
}
