package engine

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// The answers are those of Docker 20.10 and 28.
func TestNetworksOfTheEngine(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	plugins := `[]`
	var created map[string]any
	mux := http.NewServeMux()
	mux.HandleFunc("GET /plugins", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, plugins) })
	mux.HandleFunc("GET /networks", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `[{"Name":"app","Id":"net1","Created":"2026-11-29T21:00:00Z","Scope":"local","Driver":"overlane","EnableIPv4":true,"EnableIPv6":false,
			"IPAM":{"Driver":"overlane","Options":{},"Config":[{"Subnet":"10.20.0.0/16","AuxiliaryAddresses":{"db":"10.20.0.9"}}]},"Internal":true,"Attachable":false,
			"ConfigFrom":{"Network":""},"Containers":{},"Options":{"everywhere":"true"},"Labels":{"a":"b"}}]`)
	})
	mux.HandleFunc("GET /networks/{id}", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"Name":"app","Id":"net1","EnableIPv4":false,"Containers":{"c2":{"Name":"web"},"c1":{"Name":"db"}}}`)
	})
	mux.HandleFunc("GET /containers/json", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("all") == "true" && r.FormValue("filters") == `{"network":["app","net1"]}` {
			io.WriteString(w, `[{"Id":"c2","Names":["/web"]},{"Id":"c1","Names":["/db","/web/alias"]}]`)
		}
	})
	mux.HandleFunc("POST /networks/create", func(w http.ResponseWriter, r *http.Request) {
		json.NewDecoder(r.Body).Decode(&created)
		if created["Name"] == "taken" {
			http.Error(w, `{"message":"network with name taken already exists"}`, http.StatusConflict)
			return
		}
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, `{"Id":"new1","Warning":""}`)
	})
	mux.HandleFunc("DELETE /networks/{id}", func(w http.ResponseWriter, r *http.Request) {
		switch r.PathValue("id") {
		case "used":
			http.Error(w, `{"message":"error while removing network: network app id used has active endpoints"}`, http.StatusForbidden)
		case "gone":
			http.Error(w, `{"message":"network gone not found"}`, http.StatusNotFound)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	server := http.Server{Handler: mux}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })

	n := NewNetworks(socket, "overlane.sock")
	if driver, err := n.Driver(t.Context()); err != nil || driver != "overlane" {
		t.Errorf("driver %q, %v", driver, err)
	}
	plugins = `[{"Name":"other:latest","Enabled":true,"Config":{"Interface":{"Socket":"other.sock"}}},
		{"Name":"old/overlane:1","Enabled":false,"Config":{"Interface":{"Socket":"overlane.sock"}}},
		{"Name":"overlane/overlane:latest","Enabled":true,"Config":{"Interface":{"Socket":"overlane.sock"}}}]`
	if driver, err := n.Driver(t.Context()); err != nil || driver != "overlane/overlane:latest" || !SameDriver(driver, "overlane/overlane") {
		t.Errorf("driver %q, %v", driver, err)
	}
	all, err := n.List(t.Context())
	if err != nil || len(all) != 1 || all[0].ID != "net1" || !all[0].Internal || all[0].Options["everywhere"] != "true" || all[0].IPAM.Config[0].AuxiliaryAddresses["db"] != "10.20.0.9" {
		t.Errorf("%+v, %v", all, err)
	}
	if id, err := n.Create(t.Context(), "new", all[0].Spec); err != nil || id != "new1" {
		t.Errorf("%q, %v", id, err)
	}
	if created["Name"] != "new" || created["Driver"] != "overlane" || created["CheckDuplicate"] != true || created["Internal"] != true || created["Labels"].(map[string]any)["a"] != "b" {
		t.Errorf("asked for %v", created)
	}
	if _, err := n.Create(t.Context(), "taken", all[0].Spec); err == nil || err.Error() != "network with name taken already exists" {
		t.Errorf("got %v", err)
	}
	if found, err := n.Inspect(t.Context(), "net1"); err != nil || found.Name != "app" || found.EnableIPv4 == nil || *found.EnableIPv4 {
		t.Errorf("%+v, %v", found, err)
	}
	if containers, err := n.Users(t.Context(), all[0]); err != nil || strings.Join(containers, " ") != "db web" {
		t.Errorf("%v, %v", containers, err)
	}
	if err := errors.Join(n.Remove(t.Context(), "net1"), n.Remove(t.Context(), "gone")); err != nil {
		t.Error(err)
	}
	if err := n.Remove(t.Context(), "used"); !errors.Is(err, ErrInUse) {
		t.Errorf("got %v", err)
	}
}
