package engine

import (
	"context"
	"net/url"
	"sync"
)

// starting tells of containers that are about to start: the engine connects them to their networks first, and answers for them only when
// they run, but it lists them on the networks. What they are called there by itself it tells when they are made.
type starting struct {
	tell func(network, endpoint string, names []string)

	mu    sync.Mutex
	await map[string]bool                // containers that were connected and not looked at since
	known map[string]map[string][]string // container to names by what the network is called; until it is removed
}

func newStarting(tell func(network, endpoint string, names []string)) *starting {
	return &starting{tell: tell, await: map[string]bool{}, known: map[string]map[string][]string{}}
}

// connected says that a container was connected to a network.
func (s *starting) connected(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.await[id] = true
}

// removed forgets a container.
func (s *starting) removed(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.await, id)
	delete(s.known, id)
}

// looked tells of the container's endpoints on networks that are wanted, and keeps its names.
func (s *starting) looked(c *inspected, wanted func(network string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := map[string][]string{}
	for called, at := range c.NetworkSettings.Networks {
		known[called] = c.names(called)
		if at.EndpointID != "" && wanted(at.NetworkID) {
			delete(s.await, c.ID)
			s.tell(at.NetworkID, at.EndpointID, known[called])
		}
	}
	s.known[c.ID] = known
}

// peopled is what is read of an answer to /networks/ID.
type peopled struct {
	ID         string `json:"Id"`
	Name       string
	Containers map[string]struct{ Name, EndpointID string }
}

// listed tells of the endpoints of containers that were not looked at since they were connected.
func (s *starting) listed(n *peopled) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, c := range n.Containers {
		if !s.await[id] || c.EndpointID == "" {
			continue
		}
		names := s.known[id][n.Name]
		if len(names) == 0 {
			names = (&inspected{ID: id, Name: c.Name}).names(n.Name)
		}
		s.tell(n.ID, c.EndpointID, names)
	}
}

// lookAtNetwork asks who is on a network.
func (w *Watcher) lookAtNetwork(ctx context.Context, starting *starting, id string) error {
	n, err := ask[peopled](ctx, w.client, "/networks/"+url.PathEscape(id), nil)
	if err != nil {
		return err
	}
	w.cfg.Network(n.ID, n.Name)
	starting.listed(&n)
	return nil
}
