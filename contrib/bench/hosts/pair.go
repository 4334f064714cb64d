package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/overlane/overlane/contrib/bench/bed"
)

// The containers of either contender, in the order of a pair's boxes. Each contender has namespaces of its own, so that both
// may use these.
var (
	boxAddr = [4]string{"10.62.0.1", "10.62.0.2", "10.62.0.3", "10.62.0.4"}
	boxMAC  = [4]string{"02:42:0a:3e:00:01", "02:42:0a:3e:00:02", "02:42:0a:3e:00:03", "02:42:0a:3e:00:04"}
	wire    = [2]string{"10.9.2.1", "10.9.2.2"}
)

const (
	vni      = 4097
	innerMTU = 1450 // what VXLAN over IPv4 leaves of the wire's 1500
)

// pair is two hosts on a wire, with two containers on each, box n on host n%2: namespaces by their names. What is measured
// goes from box 0 to box 1, and a flood from box 2 to box 3.
type pair struct {
	name  string
	hosts [2]string
	boxes [4]string
	all   []string
}

// newPair makes the namespaces and the wire; remove takes away what is there of them.
func newPair(ctx context.Context, name string, more ...string) (*pair, error) {
	p := &pair{name: name}
	for i, side := range []string{"a", "b"} {
		p.hosts[i] = "bench-" + name + "-host-" + side
	}
	for n, letter := range []string{"a", "b", "c", "d"} {
		p.boxes[n] = "bench-" + name + "-box-" + letter
	}
	p.all = slices.Concat(p.hosts[:], p.boxes[:], more)
	if err := bed.Make(ctx, p.all...); err != nil {
		return p, err
	}
	err := bed.Script(ctx, fmt.Sprintf("ip link add wire netns %s type veth peer name wire netns %s", p.hosts[0], p.hosts[1]))
	for i, host := range p.hosts {
		err = errors.Join(err, bed.Script(ctx, fmt.Sprintf("ip -n %s addr add %s/24 dev wire", host, wire[i]), fmt.Sprintf("ip -n %s link set wire up", host)))
	}
	return p, err
}

func (p *pair) remove() { bed.Remove(p.all...) }
