package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A table row of docs/settings.md: the flag, what it means, and the default in backquotes where there is one.
var settingRow = regexp.MustCompile("(?m)^\\| `--([a-z-]+)` \\| .* \\| (?:`(.*)`|[^`|]*) \\|$")

func TestDocsHaveEverySetting(t *testing.T) {
	text, err := os.ReadFile("../../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, m := range settingRow.FindAllStringSubmatch(string(text), -1) {
		documented[m[1]] = m[2]
	}
	for _, s := range daemonSettings {
		if initial, ok := documented[s.name]; !ok || initial != s.initial {
			t.Errorf("docs/settings.md has --%s: %v, with default %q; it is %q", s.name, ok, initial, s.initial)
		}
		delete(documented, s.name)
	}
	for name := range documented {
		t.Errorf("docs/settings.md has --%s, which the daemon has not", name)
	}
}

var (
	mdLink    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	mdHeading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notInName = regexp.MustCompile(`[^a-z0-9 _-]`)
)

// anchors are the names by which links reach a page's headings.
func anchors(page string) map[string]bool {
	names := map[string]bool{}
	for _, m := range mdHeading.FindAllStringSubmatch(page, -1) {
		names[strings.ReplaceAll(notInName.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
	}
	return names
}

func TestDocsLinksLeadSomewhere(t *testing.T) {
	const root = "../.."
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || path == filepath.Join(root, "bin")):
			return filepath.SkipDir // what is not in the repository
		case filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range mdLink.FindAllStringSubmatch(string(text), -1) {
			if err := follow(path, m[1]); err != nil {
				t.Errorf("%s: link %s: %v", path, m[1], err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// follow looks for what a page's link names, where that is in the repository.
func follow(page, link string) error {
	if strings.Contains(link, "://") {
		return nil
	}
	file, anchor, _ := strings.Cut(link, "#")
	target := page
	if file != "" {
		target = filepath.Join(filepath.Dir(page), file)
	}
	if anchor == "" {
		_, err := os.Stat(target)
		return err
	}
	text, err := os.ReadFile(target)
	if err == nil && !anchors(string(text))[anchor] {
		err = fmt.Errorf("no heading #%s", anchor)
	}
	return err
}

var (
	docsDropTable = regexp.MustCompile(`(?m)^\| dropped \|.*\n\|[-|]+\n((?:\|.*\n)+)`)
	docsDropCell  = regexp.MustCompile("(?m)^\\|((?: *`[a-z_]+`,?)+) \\|")
	quoted        = regexp.MustCompile("`([a-z_]+)`")
)

// Tables of what is dropped name the counters as `overlane status` does.
func TestDocsNameCounters(t *testing.T) {
	list, err := os.ReadFile("../../datapath/dp/pure_drops.h")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"../../docs/limits.md", "../../docs/operations.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		table := docsDropTable.FindSubmatch(text)
		if table == nil {
			t.Fatalf("%s: no table of what is dropped", page)
		}
		rows := bytes.Count(table[1], []byte("\n"))
		cells := docsDropCell.FindAllSubmatch(table[1], -1)
		if len(cells) != rows {
			t.Errorf("%s: %d of %d rows name a counter", page, len(cells), rows)
		}
		for _, cell := range cells {
			for _, name := range quoted.FindAllSubmatch(cell[1], -1) {
				if !bytes.Contains(list, fmt.Appendf(nil, ", %s,", name[1])) {
					t.Errorf("%s: no packet is counted as %s", page, name[1])
				}
			}
		}
	}
}
