package discovery

import (
	"strings"
	"testing"
)

func TestSimulateMeasures(t *testing.T) {
	r := Simulate(80, 800, 1, t.Logf, t.Fatalf)
	if r.P50 <= 0 || r.P99 < r.P50 || r.Max < r.P99 || r.UpdatesPerSecond <= 0 || r.IdleKbps <= 0 || r.ColdJoin <= 0 || r.Heal <= 0 || r.CrashWithdraw <= hideAfter {
		t.Errorf("something was not measured: %s", r)
	}
	if !strings.HasPrefix(r.String(), "RESULT sim nodes=80 endpoints=800 ") {
		t.Errorf("%s", r)
	}
}
