package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// plugin listens on a socket, and answers as one that knows the method Ask alone.
func plugin(t *testing.T) (socket string) {
	return listen(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/NetworkDriver.Ask" {
			w.WriteHeader(http.StatusInternalServerError)
			io.WriteString(w, `{"Err":"what?"}`)
			return
		}
		text, _ := io.ReadAll(r.Body)
		io.WriteString(w, `{"Asked":`+string(text)+`}`+"\n")
	})
}

func listen(t *testing.T, answer http.HandlerFunc) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "overlane.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(answer)
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return socket
}

// The engine gets what overlane answers, and both are in the record, as plugin/testdata has it.
func TestExchangesAreRecorded(t *testing.T) {
	var out bytes.Buffer
	between := httptest.NewServer(newRecorder(&out, plugin(t)))
	defer between.Close()
	for _, asked := range []struct {
		method, request, answer string
		status                  int
	}{
		{"NetworkDriver.Ask", "{\"NetworkID\":\"1\"}\n", `{"Asked":{"NetworkID":"1"}` + "\n}\n", 200},
		{"NetworkDriver.Other", "", `{"Err":"what?"}`, 500},
	} {
		answer, err := http.Post(between.URL+"/"+asked.method, "application/json", strings.NewReader(asked.request))
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != asked.status || string(got) != asked.answer {
			t.Errorf("%s: %d %q, want %d %q", asked.method, answer.StatusCode, got, asked.status, asked.answer)
		}
	}
	between.Close()
	const want = "NetworkDriver.Ask\n{\"NetworkID\":\"1\"}\n= {\"Asked\":{\"NetworkID\":\"1\"}\n}\n\nNetworkDriver.Other\n! {\"Err\":\"what?\"}\n\n"
	if got := out.String(); got != want {
		t.Errorf("recorded\n%s\nwant\n%s", got, want)
	}
}

// What is under way when it is told to stop is answered, and recorded.
func TestStopWaitsForAnswers(t *testing.T) {
	asked, goOn := make(chan struct{}), make(chan struct{})
	to := listen(t, func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-goOn
		io.WriteString(w, "{}")
	})
	from := filepath.Join(t.TempDir(), "overlane.sock")
	var out bytes.Buffer
	ctx, stop := context.WithCancel(t.Context())
	served, answered := make(chan error), make(chan error)
	go func() { served <- serve(ctx, &out, from, to) }()
	engine := newRecorder(io.Discard, from).plugin
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		conn, err := net.Dial("unix", from)
		if err == nil {
			conn.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	go func() {
		answer, err := engine.Post("http://overlane/NetworkDriver.Ask", "application/json", nil)
		if err == nil {
			answer.Body.Close()
		}
		answered <- err
	}()
	<-asked
	stop()
	select {
	case err := <-served:
		t.Errorf("ended before the answer: %v", err)
	case <-time.After(50 * time.Millisecond): // as long as it takes to be wrong
	}
	close(goOn)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil || !strings.Contains(out.String(), "NetworkDriver.Ask\n= {}\n") {
		t.Errorf("%v, recorded %q", err, out.String())
	}
}

// Who starts it in the wrong order is told which is the right one.
func TestSocketsInTheWay(t *testing.T) {
	taken, free := plugin(t), filepath.Join(t.TempDir(), "overlane.sock")
	for name, c := range map[string]struct{ from, to, want string }{
		"overlane is where it was": {taken, taken, "is there already: stop overlane"},
		"overlane is nowhere":      {free, free, "Start it with --plugin-socket " + free},
	} {
		err := serve(t.Context(), io.Discard, c.from, c.to)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}
