// Command spdx lists what is in the files of a release, as SPDX 2.3 in JSON: the Go modules that are compiled in, and the Debian packages
// that are linked or, in the managed plugin, brought along. Beside each file F it wants F.binary, the program in it, and F.packages, lines of
// a Debian package's name, version and architecture.
//
//	spdx VERSION SECONDS FILE [FILE ...]
//
// SECONDS since 1970 is when the release's commit was made: of the same files comes the same list.
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "spdx:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) < 3 {
		return errors.New("usage: spdx VERSION SECONDS FILE [FILE ...]")
	}
	seconds, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return fmt.Errorf("SECONDS %q: want a number of seconds since 1970", args[1])
	}
	d := newDocument(args[0], time.Unix(seconds, 0).UTC())
	for _, file := range args[2:] {
		if err := d.add(file); err != nil {
			return err
		}
	}
	d.sort()
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(d)
}

// What SPDX calls a reference to nothing in particular.
const noAssertion = "NOASSERTION"

type document struct {
	SPDXVersion   string         `json:"spdxVersion"`
	DataLicense   string         `json:"dataLicense"`
	ID            string         `json:"SPDXID"`
	Name          string         `json:"name"`
	Namespace     string         `json:"documentNamespace"`
	Creation      creation       `json:"creationInfo"`
	Packages      []pkg          `json:"packages"`
	Relationships []relationship `json:"relationships"`

	version string
	known   map[string]bool // IDs of packages
}

type creation struct {
	Created  time.Time `json:"created"`
	Creators []string  `json:"creators"`
}

type pkg struct {
	Name             string     `json:"name"`
	ID               string     `json:"SPDXID"`
	Version          string     `json:"versionInfo"`
	FileName         string     `json:"packageFileName,omitempty"`
	DownloadLocation string     `json:"downloadLocation"`
	FilesAnalyzed    bool       `json:"filesAnalyzed"`
	LicenseConcluded string     `json:"licenseConcluded"`
	LicenseDeclared  string     `json:"licenseDeclared"`
	Copyright        string     `json:"copyrightText"`
	Checksums        []checksum `json:"checksums,omitempty"`
	References       []external `json:"externalRefs,omitempty"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type external struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	Of      string `json:"spdxElementId"`
	Kind    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

func newDocument(version string, made time.Time) *document {
	return &document{
		SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: "overlane-" + version,
		Namespace: "https://spdx.org/spdxdocs/overlane-" + version + "-" + made.Format("20060102T150405Z"),
		Creation:  creation{made, []string{"Organization: overlane", "Tool: overlane-contrib-release-spdx"}},
		version:   version, known: map[string]bool{},
	}
}

// add lists a file and what is in it.
func (d *document) add(file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	base := filepath.Base(file)
	linked, license := strings.HasSuffix(file, ".deb"), noAssertion
	if linked {
		license = "Apache-2.0" // the plugin has others' programs in it
	}
	of := d.put(pkg{
		Name: "overlane", ID: id("file", base), Version: d.version, FileName: base, LicenseDeclared: license,
		Checksums: []checksum{{"SHA256", hex.EncodeToString(sum[:])}},
	})
	d.relate(d.ID, "DESCRIBES", of)
	return errors.Join(d.addModules(of, file+".binary"), d.addPackages(of, file+".packages", linked))
}

func (d *document) addModules(of, binary string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("%s: %w", binary, err)
	}
	d.relate(of, "STATIC_LINK", d.put(module("std", strings.TrimPrefix(info.GoVersion, "go"))))
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		d.relate(of, "STATIC_LINK", d.put(module(m.Path, m.Version)))
	}
	return nil
}

func module(path, version string) pkg {
	return pkg{Name: path, ID: id("go", path, version), Version: version, References: purl("pkg:golang/" + path + "@" + version)}
}

// addPackages lists Debian's: a .deb is linked with them, the plugin contains them.
func (d *document) addPackages(of, list string, linked bool) error {
	text, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	kind := "CONTAINS"
	if linked {
		kind = "DYNAMIC_LINK"
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return fmt.Errorf("%s: line %q: want a name, a version and an architecture", list, strings.TrimSpace(line))
		}
		d.relate(of, kind, d.put(pkg{
			Name: f[0], ID: id("deb", f...), Version: f[1],
			References: purl(fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s", f[0], strings.NewReplacer("+", "%2B", ":", "%3A").Replace(f[1]), f[2])),
		}))
	}
	return nil
}

func purl(locator string) []external { return []external{{"PACKAGE-MANAGER", "purl", locator}} }

// notInID is what SPDX allows in no ID.
var notInID = regexp.MustCompile(`[^A-Za-z0-9.-]`)

func id(kind string, parts ...string) string {
	return "SPDXRef-" + kind + "-" + notInID.ReplaceAllString(strings.Join(parts, "-"), "-")
}

// put lists a package, once, and gives its ID.
func (d *document) put(p pkg) string {
	if d.known[p.ID] {
		return p.ID
	}
	d.known[p.ID] = true
	p.DownloadLocation, p.LicenseConcluded, p.Copyright = noAssertion, noAssertion, noAssertion
	if p.LicenseDeclared == "" {
		p.LicenseDeclared = noAssertion
	}
	d.Packages = append(d.Packages, p)
	return p.ID
}

func (d *document) relate(of, kind, related string) {
	d.Relationships = append(d.Relationships, relationship{of, kind, related})
}

func (d *document) sort() {
	slices.SortFunc(d.Packages, func(a, b pkg) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(d.Relationships, func(a, b relationship) int {
		return slices.Compare([]string{a.Of, a.Kind, a.Related}, []string{b.Of, b.Kind, b.Related})
	})
}
