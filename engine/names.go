package engine

import (
	"encoding/json"
	"slices"
	"strings"
)

// inspected is what is read of an answer to /containers/ID/json.
type inspected struct {
	ID     string `json:"Id"`
	Name   string
	Config struct {
		Labels map[string]string
	}
	NetworkSettings struct {
		Networks map[string]struct {
			NetworkID, EndpointID string
			Aliases, DNSNames     []string
		}
	}
}

// Labels of a task of a swarm's: its service's name, and that of the stack it belongs to. A stack's service is called STACK_NAME, and has NAME as
// an alias, which is not among the container's.
const (
	swarmService = "com.docker.swarm.service.name"
	swarmStack   = "com.docker.stack.namespace"
)

// names are those by which a container is found on a network: its own, its aliases, and the beginning of its ID as Docker shows it. A task
// of a swarm's is found by its service's name, too: Docker's server may lead that to a virtual address, at which nobody is on networks of
// other drivers than Docker's overlay (no load balancer is made there, daemon/network.go of the engine).
func (c *inspected) names(network string) []string {
	const shortID = 12
	at := c.NetworkSettings.Networks[network]
	service := c.Config.Labels[swarmService]
	all := slices.Concat([]string{strings.TrimPrefix(c.Name, "/"), service}, at.Aliases, at.DNSNames)
	if alias, is := strings.CutPrefix(service, c.Config.Labels[swarmStack]+"_"); is {
		all = append(all, alias)
	}
	all = append(all, c.ID[:min(len(c.ID), shortID)])
	var names []string
	for _, name := range all {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// event is what is read of one of /events.
type event struct {
	Type, Action string
	Actor        struct {
		ID         string
		Attributes map[string]string
	}
}

// about is the container that may be called otherwise since the event; empty: the event is about a network.
func (e *event) about() string {
	if e.Type == "network" {
		return e.Actor.Attributes["container"]
	}
	return e.Actor.ID
}

// The events of networks: see Config.Networks.
const (
	NetworkCreated      = "create"
	NetworkDestroyed    = "destroy"
	NetworkDisconnected = "disconnect"
)

// Other events that are told apart.
const (
	networkConnected = "connect"
	containerRemoved = "destroy"
)

// renames says whether a container may be called otherwise since the event.
func (e *event) renames() bool {
	return e.Action != NetworkDestroyed && e.Action != NetworkDisconnected
}

// filters are those of /events for what changes a name or a network.
var filters = func() string {
	text, _ := json.Marshal(map[string][]string{
		"type":  {"container", "network"},
		"event": {"start", "rename", networkConnected, NetworkCreated, NetworkDestroyed, NetworkDisconnected},
	})
	return string(text)
}()
