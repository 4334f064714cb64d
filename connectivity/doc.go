// Package connectivity tests on an operator's word whether containers of all hosts reach each other.
//
// The daemons do it themselves. The one that is asked leads: it tells the others by messages between hosts what to do next, and asks until each has
// done it. Each host makes a probe, which is an endpoint as a container has it but in a network namespace of the daemon's own, and tries from there to
// reach the other hosts' probes. What they find, and what their datapaths have counted meanwhile, comes back to the one that leads, which names causes.
//
// Why not containers: most hosts have no image to start, a host that is attached needs no engine, and what is between two hosts is the same for
// any endpoint. Why not the hosts' own addresses: a test between these says nothing of records, tables, workers, VXLAN or encryption. Why over gossip: it
// is there on each host, authenticated by the cluster's key, and goes on by TCP where datagrams are lost, so that a host whose packets are dropped tells of it.
//
// The order of a test is prepare, run, collect, end. A host holds one test at a time, and only as long as it hears from the one that leads: a command or
// daemon that dies leaves nothing that lasts for more than some seconds.
package connectivity
