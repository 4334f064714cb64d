package main

import (
	"net"
	"net/http"
	"net/http/httptest"
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

// A command that does not take its answer, as one that is paused, does not hold up the daemon's end, nor that it serves no more.
func TestAnswerThatNobodyTakes(t *testing.T) {
	c := newControl(func() {})
	writing := make(chan struct{}, 1)
	server := httptest.NewServer(c.unlessRefused(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for line := make([]byte, 1<<16); ; {
			if _, err := w.Write(line); err != nil {
				return
			}
			select {
			case writing <- struct{}{}:
			default:
			}
		}
	})))
	defer server.Close()
	client, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	<-writing
	c.endStreams()
	free := make(chan struct{})
	go func() { c.answers.Lock(); close(free) }()
	select {
	case <-free:
	case <-time.After(20 * time.Second):
		t.Fatal("the answer is still under way")
	}
}
