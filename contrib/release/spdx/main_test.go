package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// release makes two files as contrib/release/build does, with this test's program for overlane's.
func release(t *testing.T) (files []string) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"overlane_1.2.0-1~deb13_arm64.deb", "overlane-plugin_1.2.0_arm64.tar.gz"} {
		file := filepath.Join(dir, name)
		for _, part := range []struct {
			suffix string
			text   []byte
		}{{"", []byte(name)}, {".binary", binary}, {".packages", []byte("libssl3t64 3.5.1-1+deb13u1 arm64\nlibc6 2.41-12 arm64\n")}} {
			if err := os.WriteFile(file+part.suffix, part.text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		files = append(files, file)
	}
	return files
}

func list(t *testing.T, files ...string) (text []byte, d document) {
	t.Helper()
	var out bytes.Buffer
	if err := run(append([]string{"1.2.0", "1800000000"}, files...), &out); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), d
}

// Each file is there with its checksum, and what is in it by purl; every relationship is of what is listed.
func TestList(t *testing.T) {
	files := release(t)
	text, d := list(t, files...)
	byID := map[string]pkg{"SPDXRef-DOCUMENT": {}}
	licenses := map[string]string{}
	for _, p := range d.Packages {
		licenses[p.FileName] = p.LicenseDeclared
		if _, twice := byID[p.ID]; twice || notInID.MatchString(p.ID) {
			t.Errorf("ID %s is there twice, or none", p.ID)
		}
		byID[p.ID] = p
	}
	related := map[string][]string{}
	for _, r := range d.Relationships {
		if _, ok := byID[r.Of]; !ok || byID[r.Related].Name == "" {
			t.Errorf("%v is of what is not there", r)
		}
		for _, reference := range byID[r.Related].References {
			related[byID[r.Of].FileName] = append(related[byID[r.Of].FileName], r.Kind+" "+reference.Locator)
		}
	}
	// The plugin has in it what is not overlane's, under licences of its own.
	for file, want := range map[string]string{files[0]: "Apache-2.0", files[1]: "NOASSERTION"} {
		if got := licenses[filepath.Base(file)]; got != want {
			t.Errorf("the licence of %s is %q, want %s", file, got, want)
		}
	}
	for file, kind := range map[string]string{files[0]: "DYNAMIC_LINK", files[1]: "CONTAINS"} {
		got := related[filepath.Base(file)]
		for _, want := range []string{kind + " pkg:deb/debian/libssl3t64@3.5.1-1%2Bdeb13u1?arch=arm64", kind + " pkg:deb/debian/libc6@2.41-12?arch=arm64"} {
			if !slices.Contains(got, want) {
				t.Errorf("%s has %q, not %s", file, got, want)
			}
		}
		if !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "STATIC_LINK pkg:golang/std@") }) {
			t.Errorf("%s has %q, not Go's library", file, got)
		}
	}
	slices.Reverse(files)
	if again, _ := list(t, files...); !bytes.Equal(text, again) {
		t.Errorf("of the same files comes\n%s\nand\n%s", text, again)
	}
}

func TestRefused(t *testing.T) {
	files := release(t)
	broken := files[0] + ".packages"
	if err := os.WriteFile(broken, []byte("libc6 2.41-12\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"usage":                             {"1.2.0"},
		`SECONDS "now"`:                     {"1.2.0", "now", files[0]},
		broken + `: line "libc6 2.41-12": `: {"1.2.0", "1", files[0]},
		"no such file":                      {"1.2.0", "1", files[0] + "x"},
	} {
		if err := run(args, new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", args, err, want)
		}
	}
}
