package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Spec says what a network is, in the body of POST /networks/create and in the answer to GET /networks/ID alike.
type Spec struct {
	Driver     string            `json:",omitempty"`
	Internal   bool              `json:",omitempty"`
	EnableIPv4 *bool             `json:",omitempty"` // since API 1.47; nil: yes
	EnableIPv6 bool              `json:",omitempty"`
	IPAM       IPAM              `json:"IPAM"`
	Options    map[string]string `json:",omitempty"`
	Labels     map[string]string `json:",omitempty"`
}

// IPAM is a network's address management.
type IPAM struct {
	Driver  string            `json:",omitempty"`
	Options map[string]string `json:",omitempty"`
	Config  []Pool            `json:",omitempty"`
}

// Pool is a subnet of a network: prefixes such as 10.20.0.0/16, addresses such as 10.20.0.1.
type Pool struct {
	Subnet             string            `json:",omitempty"`
	IPRange            string            `json:",omitempty"`
	Gateway            string            `json:",omitempty"`
	AuxiliaryAddresses map[string]string `json:",omitempty"`
}

// Network is one of the engine's.
type Network struct {
	ID    string `json:"Id"`
	Name  string
	Scope string // local, or swarm
	Spec
}

// ErrInUse says that a network can't be removed, for containers that run are on it.
var ErrInUse = errors.New("containers use it")

// Networks makes and removes networks of the engine's.
type Networks struct {
	client *client
	plugin string // name of the socket on which this process is a plugin, such as overlane.sock
}

// NewNetworks uses the engine behind a socket, to which this process is a plugin by another socket of that name.
func NewNetworks(socket, plugin string) *Networks { return &Networks{newClient(socket), plugin} }

// Driver is by what name the engine knows this process: that of a managed plugin, or of its socket
// (docs.docker.com/engine/extend/plugin_api).
func (n *Networks) Driver(ctx context.Context) (string, error) {
	type plugin struct {
		Name    string
		Enabled bool
		Config  struct{ Interface struct{ Socket string } }
	}
	plugins, err := ask[[]plugin](ctx, n.client, "/plugins", nil)
	if err != nil {
		return "", err
	}
	at := slices.IndexFunc(plugins, func(p plugin) bool { return p.Enabled && p.Config.Interface.Socket == n.plugin })
	if at < 0 {
		return strings.TrimSuffix(n.plugin, ".sock"), nil
	}
	return plugins[at].Name, nil
}

// SameDriver says whether two names of drivers mean the same: a plugin's tag is latest if none is given.
func SameDriver(a, b string) bool {
	return strings.TrimSuffix(a, ":latest") == strings.TrimSuffix(b, ":latest")
}

// List lists all networks.
func (n *Networks) List(ctx context.Context) ([]Network, error) {
	return ask[[]Network](ctx, n.client, "/networks", nil)
}

// Create makes a network, and gives its ID.
func (n *Networks) Create(ctx context.Context, name string, spec Spec) (id string, err error) {
	body := struct {
		Name           string
		CheckDuplicate bool // the engine may know another one of that name, before API 1.44
		Spec
	}{name, true, spec}
	var made struct{ ID string }
	text, err := n.do(ctx, http.MethodPost, "/networks/create", body)
	if err == nil {
		err = json.Unmarshal(text, &made)
	}
	return made.ID, err
}

// Remove removes a network; one that is gone is no error. ErrInUse: containers that run are on it.
func (n *Networks) Remove(ctx context.Context, id string) error {
	_, err := n.do(ctx, http.MethodDelete, "/networks/"+url.PathEscape(id), nil)
	status := (*statusError)(nil)
	switch {
	case errors.As(err, &status) && status.code == http.StatusNotFound:
		return nil
	case errors.As(err, &status) && (status.code == http.StatusForbidden || status.code == http.StatusConflict):
		return fmt.Errorf("%w: %w", ErrInUse, err)
	}
	return err
}

// Inspect tells of a network.
func (n *Networks) Inspect(ctx context.Context, id string) (Network, error) {
	return ask[Network](ctx, n.client, "/networks/"+url.PathEscape(id), nil)
}

// Users names the containers on a network, those that are stopped too.
func (n *Networks) Users(ctx context.Context, of Network) (names []string, err error) {
	filters, err := json.Marshal(map[string][]string{"network": {of.Name, of.ID}})
	if err != nil {
		return nil, err
	}
	containers, err := ask[[]struct {
		ID    string `json:"Id"`
		Names []string
	}](ctx, n.client, "/containers/json", url.Values{"all": {"true"}, "filters": {string(filters)}})
	for _, c := range containers {
		names = append(names, strings.TrimPrefix(append(c.Names, c.ID)[0], "/"))
	}
	slices.Sort(names)
	return names, err
}

// do has the engine do something, and gives its answer.
func (n *Networks) do(ctx context.Context, method, path string, body any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := n.client.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if answer.StatusCode >= http.StatusMultipleChoices {
		return nil, &statusError{answer.StatusCode, messageOf(said)}
	}
	return said, nil
}

// messageOf is what the engine says of an error, in {"message": "…"}.
func messageOf(said []byte) string {
	var told struct{ Message string }
	if json.Unmarshal(said, &told) != nil || told.Message == "" {
		return strings.TrimSpace(string(said))
	}
	return told.Message
}
