//go:build lab && soak

package lab

import "testing"

// The managed plugin takes as many endpoints back as the daemon, once Docker has started it again. TestPlugin kills one too.
func TestTrafficOutlivesPlugin(t *testing.T) {
	c := cluster(t)
	installPlugin(t, c, "OVERLANE_JOIN="+c.Hosts[0].Addr.String())
	pluginsMeet(t, c)
	f := manyEndpoints(t, c, pluginDriver)
	for _, h := range c.Hosts[:2] {
		shell(t, h, "kill -9 $(pidof overlane)")
		f.short(t, "the plugin killed on "+h.Name)
	}
}
