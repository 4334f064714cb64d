package main

import (
	"testing"
	"time"

	"github.com/overlane/overlane/connectivity"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/plugin"
)

// silentCluster is this host, and another one that does not answer.
type silentCluster struct{ connectivity.Cluster }

func (silentCluster) Self() discovery.Member { return discovery.Member{ID: "1"} }
func (silentCluster) Members() []discovery.Member {
	return []discovery.Member{{ID: "2", State: discovery.StateAlive, Tests: true}}
}
func (silentCluster) Send(string, []byte) error { return nil }
func (silentCluster) Resolve(string) uint32     { return 5000 }

// emptyOverlay has nothing.
type emptyOverlay struct{ connectivity.Overlay }

func (emptyOverlay) Members() []overlay.MemberStatus { return nil }

// A host that is fenced says so at once, and ends a test that it leads rather than wait for it.
func TestAFencedHostEndsItsTest(t *testing.T) {
	log := quiet()
	tests := connectivity.Open(connectivity.Config{Overlay: emptyOverlay{}, Log: log})
	tests.Attach(silentCluster{})
	ctl := newControl(func() {})
	ctl.tests.Store(tests)
	begun, hold, ended := make(chan struct{}, 1), make(chan struct{}), make(chan error, 1)
	go func() { // as an answer
		ctl.answers.RLock()
		defer ctl.answers.RUnlock()
		_, err := tests.Test(t.Context(), connectivity.Spec{}, func(string) {
			select {
			case begun <- struct{}{}:
			default:
			}
			<-hold
		})
		ended <- err
	}()
	<-begun
	done := make(chan struct{})
	go func() { refuse(&discovery.TwinError{}, plugin.New("local", log), ctl, log); close(done) }()
	for end := time.Now().Add(10 * time.Second); ctl.refused.Load() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the host serves while its test is not over")
		}
	}
	close(hold)
	if err := <-ended; err == nil {
		t.Error("the test went on")
	}
	<-done
}
