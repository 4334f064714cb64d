package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/overlane/overlane/discovery"
)

// readReport gives the files of an archive.
func readReport(t *testing.T, archive io.Reader) map[string]string {
	t.Helper()
	unzipped, err := gzip.NewReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(unzipped); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		var text []byte
		if err == nil {
			text, err = io.ReadAll(r)
		}
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = string(text)
	}
}

// What fails says so, and a token is left out wherever it stands.
func TestReport(t *testing.T) {
	token := discovery.NewToken().Text()
	var archive bytes.Buffer
	err := writeReport(t.Context(), &archive, []reportSource{
		{"good.txt", false, []string{"echo", "it works"}},
		{"secret.txt", false, []string{"echo", "--token=" + token + " and more"}},
		{"bad.txt", false, []string{"sh", "-c", "echo broken >&2; exit 3"}},
		{"none.txt", false, []string{"/no/such/command"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	files := readReport(t, &archive)
	for file, want := range map[string]string{
		"good.txt": "it works\n", "secret.txt": "--token=overlane1-(left out) and more\n", "bad.txt": "broken\n\nsh -c echo broken >&2; exit 3: exit status 3\n", "none.txt": "no such file",
	} {
		if got := files["overlane-report/"+file]; !strings.Contains(got, want) {
			t.Errorf("%s has %q, want %q", file, got, want)
		}
	}
}

// The daemon's answers are in the archive, which root alone reads, and no file is written over.
func TestBugreport(t *testing.T) {
	socket, to := daemon(t, busy(t)), filepath.Join(t.TempDir(), "report.tar.gz")
	t.Setenv("PATH", filepath.Join(t.TempDir(), "nothing")) // what is installed here is of no account
	out, err := command("bugreport", "--control-socket", socket, "--to", to)
	if err != nil || !strings.Contains(out, to) {
		t.Fatalf("%v: %s", err, out)
	}
	info, err := os.Stat(to)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	archive, err := os.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	files := readReport(t, archive)
	for _, s := range reportSources(socket) {
		if _, there := files["overlane-report/"+s.file]; !there {
			t.Errorf("no %s", s.file)
		}
	}
	if _, err := command("bugreport", "--control-socket", socket, "--to", to); err == nil || !strings.Contains(err.Error(), "choose another name") {
		t.Errorf("over a file that is there: %v", err)
	}
}

// The manual is the same on every host.
func TestReportsNameIsNoDefault(t *testing.T) {
	if flag := bugreportCommand().Flag("to"); flag.DefValue != "" {
		t.Errorf("the manual says that --to is %s", flag.DefValue)
	}
}
