package engine

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
)

// fakeEngine answers as Docker's engine does. The documents have what Docker 28 and 20.10 say, as far as it matters.
type fakeEngine struct {
	t      *testing.T
	socket string
	server *http.Server

	mu         sync.Mutex
	containers map[string]string // ID to what /containers/ID/json says; empty: nothing until it is set
	joined     string            // what /networks/net1 says of containers
	streams    map[chan string]bool
}

const (
	dbID   = "dbdbdbdbdbdbdbdbdbdbdbdbdbdbdbdbdbdbdbdbdbdbdbdbdbdbdbdbdbdbdbdb"
	taskID = "7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a"
)

func document(id, name, labels, networks string) string {
	return fmt.Sprintf(`{"Id":%q,"Name":"/%s","State":{"Running":true},"Config":{"Labels":%s},"NetworkSettings":{"Networks":{%s}}}`, id, name, labels, networks)
}

func (f *fakeEngine) start() {
	f.t.Helper()
	l, err := net.Listen("unix", f.socket)
	if err != nil {
		f.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /events", f.events)
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"Version":"28.5.2"}`) })
	mux.HandleFunc("GET /networks", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `[{"Id":"net1","Name":"app"},{"Id":"other","Name":"bridge"}]`)
	})
	mux.HandleFunc("GET /networks/net1", func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		fmt.Fprintf(w, `{"Id":"net1","Name":"app","Containers":{%s}}`, f.joined)
	})
	mux.HandleFunc("GET /containers/json", f.list)
	mux.HandleFunc("GET /containers/{id}/json", f.inspect)
	f.server = &http.Server{Handler: mux}
	go f.server.Serve(l)
}

func (f *fakeEngine) stop() { f.server.Close() }

func (f *fakeEngine) set(id, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.containers[id] = text
}

func (f *fakeEngine) list(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []json.RawMessage
	for _, text := range f.containers {
		if text == "" {
			continue
		}
		all = append(all, json.RawMessage(text))
	}
	json.NewEncoder(w).Encode(all)
}

func (f *fakeEngine) inspect(w http.ResponseWriter, r *http.Request) {
	text, known := f.document(r.PathValue("id"))
	for known && text == "" && r.Context().Err() == nil {
		time.Sleep(time.Millisecond)
		text, known = f.document(r.PathValue("id"))
	}
	if !known {
		http.Error(w, `{"message":"No such container"}`, http.StatusNotFound)
		return
	}
	io.WriteString(w, text)
}

func (f *fakeEngine) document(id string) (text string, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, known = f.containers[id]
	return text, known
}

func (f *fakeEngine) events(w http.ResponseWriter, r *http.Request) {
	stream := make(chan string, 10)
	f.mu.Lock()
	f.streams[stream] = true
	f.mu.Unlock()
	w.(http.Flusher).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case text := <-stream:
			io.WriteString(w, text)
			w.(http.Flusher).Flush()
		}
	}
}

func (f *fakeEngine) say(event string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for stream := range f.streams {
		stream <- event
	}
}

// told is what a Watcher tells.
type told struct {
	mu       sync.Mutex
	names    map[string]string // endpoint to its names
	networks map[string]string
	actions  []string // of networks
}

func watch(t *testing.T) (*fakeEngine, *told, *Watcher) {
	t.Helper()
	f := &fakeEngine{t: t, socket: filepath.Join(t.TempDir(), "docker.sock"), containers: map[string]string{}, streams: map[chan string]bool{}}
	f.set(dbID, document(dbID, "shop-db-1", `{}`, `"app":{"NetworkID":"net1","EndpointID":"ep1","Aliases":["db","shop-db-1"],"DNSNames":["shop-db-1","db","dbdbdbdbdbdb"]},"bridge":{"NetworkID":"other","EndpointID":"ep2"}`))
	f.set(taskID, document(taskID, "web.1.abc", `{"com.docker.swarm.service.name":"shop_web","com.docker.stack.namespace":"shop"}`, `"app":{"NetworkID":"net1","EndpointID":"ep3","Aliases":null}`))
	got := &told{names: map[string]string{}, networks: map[string]string{}}
	log := logrus.New()
	log.SetOutput(io.Discard)
	w := Watch(Config{
		Socket: f.socket, Log: log,
		Wanted: func(network string) bool { return network == "net1" },
		Container: func(network, endpoint string, names []string) {
			got.mu.Lock()
			defer got.mu.Unlock()
			got.names[network+" "+endpoint] = strings.Join(names, " ")
		},
		Network: func(id, name string) {
			got.mu.Lock()
			defer got.mu.Unlock()
			got.networks[id] = name
		},
		Networks: func(action string) {
			got.mu.Lock()
			defer got.mu.Unlock()
			got.actions = append(got.actions, action)
		},
	})
	t.Cleanup(func() {
		w.Close()
		f.stop()
	})
	return f, got, w
}

// did says whether these actions of networks were told of, in this order.
func (g *told) did(actions ...string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Equal(g.actions, actions)
}

func (g *told) eventually(t *testing.T, endpoint, want string) {
	t.Helper()
	var got string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		g.mu.Lock()
		got = g.names["net1 "+endpoint]
		g.mu.Unlock()
		if got == want {
			return
		}
	}
	t.Fatalf("%s is called %q, want %q", endpoint, got, want)
}

func TestContainersAreNamed(t *testing.T) {
	f, got, w := watch(t)
	if _, err := Version(t.Context(), f.socket); err == nil || w.Err() == nil {
		t.Error("no engine runs, and no error tells of it")
	}
	f.start()
	if _, err := Version(t.Context(), f.socket); err != nil {
		t.Error(err)
	}
	got.eventually(t, "ep1", "shop-db-1 db dbdbdbdbdbdb")
	got.eventually(t, "ep3", "web.1.abc shop_web web 7a7a7a7a7a7a")

	f.set(dbID, document(dbID, "renamed", `{}`, `"app":{"NetworkID":"net1","EndpointID":"ep1","Aliases":["db"]}`))
	f.say(`{"Type":"container","Action":"rename","Actor":{"ID":"` + dbID + `"}}`)
	got.eventually(t, "ep1", "renamed db dbdbdbdbdbdb")

	f.set(dbID, document(dbID, "renamed", `{}`, `"app":{"NetworkID":"net1","EndpointID":"ep9","Aliases":["late"]}`))
	f.say(`{"Type":"network","Action":"connect","Actor":{"ID":"net1","Attributes":{"container":"` + dbID + `"}}}`)
	got.eventually(t, "ep9", "renamed late dbdbdbdbdbdb")
	f.say(`{"Type":"container","Action":"start","Actor":{"ID":"gone"}}`)
	f.say(`{"Type":"network","Action":"create","Actor":{"ID":"net1","Attributes":{"name":"front"}}}`)
	f.say(`{"Type":"network","Action":"destroy","Actor":{"ID":"net2","Attributes":{"name":"back"}}}`)
	for end := time.Now().Add(20 * time.Second); !got.did("", "connect", "create", "destroy"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("told of %v", got.actions)
		}
	}

	got.mu.Lock()
	defer got.mu.Unlock()
	if keys := len(got.names); keys != 3 {
		t.Errorf("named: %v, want the endpoints of net1 alone", got.names)
	}
	if _, told := got.networks["other"]; told {
		t.Errorf("networks: %v, want net1 alone", got.networks)
	}
}

// A restart of the engine loses nothing, whatever happened meanwhile.
func TestEngineRestarts(t *testing.T) {
	f, got, w := watch(t)
	f.start()
	got.eventually(t, "ep1", "shop-db-1 db dbdbdbdbdbdb")
	f.stop()
	f.set(dbID, document(dbID, "meanwhile", `{}`, `"app":{"NetworkID":"net1","EndpointID":"ep1"}`))
	f.start()
	got.eventually(t, "ep1", "meanwhile dbdbdbdbdbdb")
	for end := time.Now().Add(20 * time.Second); w.Err() != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(w.Err())
		}
	}
}

// Where systemd listens on the socket of an engine that was stopped, a connection would start it again.
func TestStoppedEngineIsNotStarted(t *testing.T) {
	f, got, w := watch(t)
	pid := filepath.Join(filepath.Dir(f.socket), "docker.pid")
	if err := os.WriteFile(pid, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f.start()
	got.eventually(t, "ep1", "shop-db-1 db dbdbdbdbdbdb")
	if err := os.Remove(pid); err != nil {
		t.Fatal(err)
	}
	f.stop()
	systemd, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	var connected atomic.Bool
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		if conn, err := systemd.Accept(); err == nil {
			connected.Store(true)
			conn.Close()
		}
	}()
	for end := time.Now().Add(20 * time.Second); w.Err() == nil || !strings.Contains(w.Err().Error(), "stopped"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%v, want that it was stopped", w.Err())
		}
	}
	if connected.Load() {
		t.Error("a stopped engine was connected to")
	}
	if err := os.WriteFile(pid, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	select {
	case <-accepted:
	case <-time.After(20 * time.Second):
		t.Error("an engine that runs again is not connected to")
	}
	systemd.Close()
}

// What is no JSON, or no document of Docker's, stops nothing.
func TestEngineTalksNonsense(t *testing.T) {
	f, got, _ := watch(t)
	f.start()
	got.eventually(t, "ep1", "shop-db-1 db dbdbdbdbdbdb")
	f.set(dbID, `{"Id":5`)
	f.say(`{"Type":"container","Action":"rename","Actor":{"ID":"` + dbID + `"}}`)
	f.say(`nonsense`)
	f.set(dbID, document(dbID, "back", `{}`, `"app":{"NetworkID":"net1","EndpointID":"ep1"}`))
	got.eventually(t, "ep1", "back dbdbdbdbdbdb")
}

// A container has its names before it runs: the engine, which does not answer for it yet, lists it on its network.
func TestContainerThatStartsIsNamed(t *testing.T) {
	f, got, _ := watch(t)
	f.start()
	got.eventually(t, "ep1", "shop-db-1 db dbdbdbdbdbdb")
	connect := func(id, name, endpoint string) {
		f.set(id, "")
		f.mu.Lock()
		f.joined = fmt.Sprintf(`%q:{"Name":%q,"EndpointID":%q},%q:{"Name":"shop-db-1","EndpointID":"ep1"}`, id, name, endpoint, dbID)
		f.mu.Unlock()
		f.say(`{"Type":"network","Action":"connect","Actor":{"ID":"net1","Attributes":{"container":"` + id + `"}}}`)
	}
	const made, unseen = "111111111111111111", "222222222222222222"
	f.set(made, document(made, "api", `{}`, `"app":{"NetworkID":"","EndpointID":"","Aliases":["backend"]},"front":{"NetworkID":"net1","EndpointID":"ep4"}`))
	f.say(`{"Type":"container","Action":"create","Actor":{"ID":"` + made + `"}}`)
	got.eventually(t, "ep4", "api 111111111111")
	connect(made, "api", "ep5")
	got.eventually(t, "ep5", "api backend 111111111111")
	connect(unseen, "quick", "ep6")
	got.eventually(t, "ep6", "quick 222222222222")

	f.set(unseen, document(unseen, "quick", `{}`, `"app":{"NetworkID":"net1","EndpointID":"ep6","Aliases":["soon"]}`))
	got.eventually(t, "ep6", "quick soon 222222222222")
	got.eventually(t, "ep1", "shop-db-1 db dbdbdbdbdbdb")
}
