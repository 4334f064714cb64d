package page

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// crowd is how many connections are there from each address.
type crowd struct {
	mu   sync.Mutex
	from map[netip.Prefix]int
}

// count closes a new connection from an address that has as many as it may. It is told of each one's beginning and end.
func (c *crowd) count(conn net.Conn, now http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	who := network(conn.RemoteAddr().String())
	switch now {
	case http.StateNew:
		if c.from[who]++; c.from[who] > maxFromOne {
			conn.Close() // the server sees that, and tells of its end
		}
	case http.StateClosed, http.StateHijacked:
		if c.from[who]--; c.from[who] == 0 {
			delete(c.from, who)
		}
	}
}
