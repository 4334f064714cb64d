// Package hostnet is this host's own network, as far as an attachment takes part in it: the interface's addresses, the rules that keep
// other networks apart from it, and the names in /etc/hosts. It knows no networks of overlane's: what an interface is to have it is told.
package hostnet

import "net/netip"

// Interface is this host's own interface on a network.
type Interface struct {
	Name  string
	Alias string         // by which it is known to be that one
	Addrs []netip.Prefix // each with its subnet's length
}

// Host is the machine that the daemon runs on. The zero value is ready.
type Host struct {
	fence     fence
	antispoof antispoof
}
