// Package names answers the queries that containers send to Docker's DNS server, 127.0.0.11, as far as they are for containers of
// overlane's networks. It knows no Docker and no gossip: who is called what it is told.
//
// In each container's network namespace it has sockets and a BPF program (sk_lookup, Linux 5.9) that hands them what was sent to
// 127.0.0.11. What is not in its table goes on to Docker's server there, and the answer back. All of it ends with the process, however
// that ends: then Docker's server gets the queries again.
package names
