package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
)

// A second daemon on the same sockets stops with the flag to change, and leaves the first one's sockets alone.
func TestSocketsInUse(t *testing.T) {
	besideALivingDaemon(t)
	dir := t.TempDir()
	taken, free := filepath.Join(dir, "taken.sock"), filepath.Join(dir, "free.sock")
	l, err := listen(taken)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	log := logrus.New()
	log.SetOutput(io.Discard)
	for name, tc := range map[string]struct {
		s    settings
		want string
	}{
		"plugin":  {settings{pluginSocket: taken, controlSocket: free}, "--plugin-socket (OVERLANE_PLUGIN_SOCKET): " + taken},
		"control": {settings{pluginSocket: free, controlSocket: taken}, "--control-socket (OVERLANE_CONTROL_SOCKET): " + taken},
	} {
		t.Run(name, func(t *testing.T) {
			err := run(t.Context(), tc.s, log)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "another daemon answers") {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
			if _, err := os.Stat(free); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a socket is left behind: %v", err)
			}
			if _, err := os.Stat(taken); err != nil {
				t.Errorf("the first daemon's socket is gone: %v", err)
			}
		})
	}
}
