//go:build lab

package lab

import "testing"

func TestDemo(t *testing.T) {
	must(t, Demo(t.Context(), cluster(t), demoContainers, t.Output()))
}
