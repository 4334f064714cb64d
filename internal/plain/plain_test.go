package plain

import "testing"

func TestText(t *testing.T) {
	if got := Text("a\x1b[2Jb\nc\u202eé"); got != "a?[2Jb c?é" {
		t.Errorf("%q", got)
	}
}
