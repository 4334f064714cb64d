package check

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/overlane/overlane/internal/testns"
)

// named makes network namespaces that end with the test.
func named(t *testing.T, names ...string) []string {
	t.Helper()
	namespaces := make([]string, len(names))
	for i, name := range names {
		namespaces[i] = fmt.Sprintf("ovcheck%d-%s", os.Getpid(), name)
		testns.Run(t, "ip netns add "+namespaces[i])
		t.Cleanup(func() { testns.Run(t, "ip netns del "+namespaces[i]) })
	}
	return namespaces
}

// says wants a state, and words in what was seen and its cure.
func says(t *testing.T, r Result, state State, words ...string) {
	t.Helper()
	if r.State != state {
		t.Errorf("%+v, want %s", r, state)
	}
	if (r.State == OK) != (r.Cure == "") {
		t.Errorf("%+v: a cure goes with what is not well", r)
	}
	for _, word := range words {
		if !strings.Contains(r.Seen+" "+r.Cure, word) {
			t.Errorf("%+v lacks %q", r, word)
		}
	}
}
