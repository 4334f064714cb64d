package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/overlane/overlane/contrib/bench/testbed"
)

// The containers of either contender, in the order of a pair's containers. Each contender has namespaces of its own, so that both
// may use these.
var (
	containerAddr = [4]string{"10.62.0.1", "10.62.0.2", "10.62.0.3", "10.62.0.4"}
	containerMAC  = [4]string{"02:42:0a:3e:00:01", "02:42:0a:3e:00:02", "02:42:0a:3e:00:03", "02:42:0a:3e:00:04"}
	wire          = [2]string{"10.9.2.1", "10.9.2.2"}
)

const (
	vni      = 4097
	innerMTU = 1450 // what VXLAN over IPv4 leaves of the wire's 1500
)

// pair is two hosts on a wire, with two containers on each, container n on host n%2: namespaces by their names. What is measured
// goes from container 0 to container 1, or on one host to container 2, and a flood from container 2 to container 3.
type pair struct {
	name       string
	hosts      [2]string
	containers [4]string
	all        []string
}

// newPair makes the namespaces and the wire; remove takes away what is there of them.
func newPair(ctx context.Context, name string, more ...string) (*pair, error) {
	p := &pair{name: name}
	for i, side := range []string{"a", "b"} {
		p.hosts[i] = "bench-" + name + "-host-" + side
	}
	for n, letter := range []string{"a", "b", "c", "d"} {
		p.containers[n] = "bench-" + name + "-container-" + letter
	}
	p.all = slices.Concat(p.hosts[:], p.containers[:], more)
	if err := testbed.AddNamespaces(ctx, p.all...); err != nil {
		return p, err
	}
	err := testbed.Script(ctx, fmt.Sprintf("ip link add wire netns %s type veth peer name wire netns %s", p.hosts[0], p.hosts[1]))
	for i, host := range p.hosts {
		err = errors.Join(err, testbed.Script(ctx, fmt.Sprintf("ip -n %s addr add %s/24 dev wire", host, wire[i]), fmt.Sprintf("ip -n %s link set wire up", host)))
	}
	return p, err
}

func (p *pair) remove() { testbed.DelNamespaces(p.all...) }
