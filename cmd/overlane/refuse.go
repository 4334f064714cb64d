package main

import (
	"context"
	"net/http"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/plugin"
)

// takeTime is how long an answer may take on its way to a client when the daemon ends, or does not serve any more.
const takeTime = time.Second

// refuse has Docker and the operator's commands told why this host does not serve, and waits for answers under way, of which a test's is ended.
func refuse(reason *discovery.TwinError, driver *plugin.Plugin, ctl *control, log logrus.FieldLogger) {
	log.Error(reason)
	driver.Refuse(reason)
	ctl.refused.Store(reason)
	ctl.endStreams()
	if tests := ctl.tests.Load(); tests != nil {
		tests.Close()
	}
	ctl.answers.Lock()
	defer ctl.answers.Unlock()
}

// stay waits for the daemon's end, for nothing but to tell that. One that ended would be started again, and nobody would be told.
func stay(ctx context.Context, failed <-chan error) error {
	systemd.SdNotify(false, systemd.SdNotifyReady)
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// unlessRefused answers with the reason where this host does not serve.
func (c *control) unlessRefused(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.answers.RLock()
		defer c.answers.RUnlock()
		// Nobody waits for long for a client that does not take its answer.
		defer context.AfterFunc(c.streams, func() { http.NewResponseController(w).SetWriteDeadline(time.Now().Add(takeTime)) })()
		if reason := c.refused.Load(); reason != nil {
			http.Error(w, reason.Error(), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
