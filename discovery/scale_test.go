package discovery

import (
	"fmt"
	"strings"
	"testing"
)

func TestSimulateMeasures(t *testing.T) {
	r := Simulate(scaleNodes, 10*scaleNodes, 1, t.Logf, t.Fatalf)
	if r.P50 <= 0 || r.P99 < r.P50 || r.Max < r.P99 || r.UpdatesPerSecond <= 0 || r.IdleKbps <= 0 || r.ColdJoin <= 0 || r.Heal <= 0 || r.CrashWithdraw <= hideAfter {
		t.Errorf("something was not measured: %s", r)
	}
	if !strings.HasPrefix(r.String(), fmt.Sprintf("RESULT sim nodes=%d endpoints=%d ", scaleNodes, 10*scaleNodes)) {
		t.Errorf("%s", r)
	}
}
