package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVersionIsTheRelease(t *testing.T) {
	before := release
	t.Cleanup(func() { release = before })
	release = "v1.2.0-3-g513fd6e"
	if out, err := command("version"); err != nil || out != "overlane v1.2.0-3-g513fd6e\n" {
		t.Errorf("overlane version: %q, %v", out, err)
	}
}

// Built without the Makefile, it still says something.
func TestVersionWithoutARelease(t *testing.T) {
	if out, err := command("version"); err != nil || len(strings.Fields(out)) != 2 {
		t.Errorf("overlane version: %q, %v", out, err)
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out, err := command("completion", shell); err != nil || !strings.Contains(out, "overlane") {
			t.Errorf("overlane completion %s: %q, %v", shell, out, err)
		}
	}
	// What the script asks when somebody presses Tab.
	if out, err := command("__complete", "status", "mem"); err != nil || !strings.HasPrefix(out, "members\t") {
		t.Errorf("completion of `overlane status mem`: %q, %v", out, err)
	}
}

func TestManPages(t *testing.T) {
	dir := t.TempDir()
	if out, err := command("man", dir); err != nil {
		t.Fatalf("overlane man: %v\n%s", err, out)
	}
	for _, name := range []string{"overlane", "overlane-check", "overlane-daemon", "overlane-ipam-reclaim", "overlane-token-rotate", "overlane-status-records"} {
		if _, err := os.Stat(filepath.Join(dir, name+".8")); err != nil {
			t.Error(err)
		}
	}
	page, err := os.ReadFile(filepath.Join(dir, "overlane-daemon.8"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range daemonSettings {
		if flag := `--` + s.name + `\fP`; !strings.Contains(string(page), flag) || !strings.Contains(string(page), s.env()) {
			t.Errorf("overlane-daemon.8 lacks --%s or %s", s.name, s.env())
		}
	}
}
