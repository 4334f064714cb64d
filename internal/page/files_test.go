package page

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// own gives the page's files by name.
func own(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(embedded, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := embedded.ReadFile(name)
		all[strings.TrimPrefix(name, "static/")] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestPageIsSmall(t *testing.T) {
	const most = 300_000
	size := 0
	for _, text := range own(t) {
		size += len(text)
	}
	if size > most {
		t.Errorf("the page has %d bytes, want %d at most", size, most)
	}
}

var (
	imported = regexp.MustCompile(`(?m)^import .*'\./(.*)';$`)
	loaded   = regexp.MustCompile(`(?:href|src)="([^"#]+)"`)
	inline   = regexp.MustCompile(`<style| style=| on[a-z]+=|<script(?: [^>]*)?>[^<]`)
)

// The page loads its own files and nothing else, and each of them has a type.
func TestPageLoadsItsOwn(t *testing.T) {
	all := own(t)
	used := map[string]bool{"index.html": true}
	for name, text := range all {
		for _, m := range append(imported.FindAllStringSubmatch(text, -1), loaded.FindAllStringSubmatch(text, -1)...) {
			if _, there := all[m[1]]; !there {
				t.Errorf("%s loads %s, which is not there", name, m[1])
			}
			used[m[1]] = true
		}
	}
	for name := range all {
		if !used[name] {
			t.Errorf("nothing loads %s", name)
		}
		if kind := types[name[strings.LastIndex(name, "."):]]; kind == "" {
			t.Errorf("%s has no type", name)
		}
	}
	if found := inline.FindString(all["index.html"]); found != "" {
		t.Errorf("index.html has %s, which the policy keeps from running", found)
	}
}

var made = regexp.MustCompile(`^/\* uPlot (\S+), made by contrib/page/library from \S+; sha256 of what follows: ([0-9a-f]{64})\n(?s:.*?)\*/\n`)

// The charting library is what its recipe makes of the version that is pinned, and nobody has changed it by hand.
func TestLibraryIsThatOfTheRecipe(t *testing.T) {
	text, err := os.ReadFile("../../contrib/page/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	var lock struct {
		Packages map[string]struct{ Version, Integrity string }
	}
	if err := json.Unmarshal(text, &lock); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), `"resolved"`) {
		t.Error("package-lock.json names a registry: run `npm config set omit-lockfile-registry-resolved true`, and make it anew")
	}
	for name, p := range lock.Packages {
		if name != "" && !strings.HasPrefix(p.Integrity, "sha512-") {
			t.Errorf("package-lock.json has no hash of %s", name)
		}
	}
	const stale = "run `make page-library`"
	for _, name := range []string{"vendor/uplot.js", "vendor/uplot.css"} {
		text := own(t)[name]
		m := made.FindStringSubmatch(text)
		if m == nil {
			t.Errorf("%s does not begin as the recipe has it: %s", name, stale)
			continue
		}
		if want := lock.Packages["node_modules/uplot"].Version; m[1] != want {
			t.Errorf("%s is of version %s, and %s is pinned: %s", name, m[1], want, stale)
		}
		if sum := fmt.Sprintf("%x", sha256.Sum256([]byte(text[len(m[0]):]))); sum != m[2] {
			t.Errorf("%s was changed, its checksum is %s: %s", name, sum, stale)
		}
		if !strings.Contains(m[0], "Permission is hereby granted") {
			t.Errorf("%s has no licence", name)
		}
	}
}
