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
)

// plugin listens on a socket, and answers as one that knows the method Ask alone.
func plugin(t *testing.T) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "overlane.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/NetworkDriver.Ask" {
			w.WriteHeader(http.StatusInternalServerError)
			io.WriteString(w, `{"Err":"what?"}`)
			return
		}
		text, _ := io.ReadAll(r.Body)
		io.WriteString(w, `{"Asked":`+string(text)+`}`+"\n")
	}))
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

// Who starts it in the wrong order is told which is the right one.
func TestSocketsInTheWay(t *testing.T) {
	taken, free := plugin(t), filepath.Join(t.TempDir(), "overlane.sock")
	for name, c := range map[string]struct{ from, to, want string }{
		"overlane is where it was": {taken, taken, "is there already: stop overlane"},
		"overlane is nowhere":      {free, free, "Start it with --plugin-socket " + free},
	} {
		err := serve(context.Background(), c.from, c.to)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}
