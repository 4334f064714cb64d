package connectivity

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/overlane/overlane/discovery"
)

// maxPinged bounds of how many containers it is tried whether the way out leads somewhere.
const maxPinged = 3

// own is this host's own network namespace.
type own struct{}

func (own) Do(f func() error) error { return f() }

// egress has containers of this host ping another host's VTEP through Docker's bridge, until one gets an answer. Where the host itself gets
// none it says nothing.
func (p *part) egress(ctx context.Context, to peer) Check {
	c := Check{Name: "egress"}
	vtep := p.vtepOf(to.ID)
	if !vtep.IsValid() {
		c.Skipped = "this host knows no such member"
		return c
	}
	if _, err := ping(ctx, own{}, p.test, vtep); err != nil {
		c.Skipped = fmt.Sprintf("this host itself can't ping %s: %v", vtep, err)
		return c
	}
	pinged := 0
	for _, path := range p.m.cfg.Overlay.Sandboxes() {
		took, tried, err := p.pingFrom(ctx, path, vtep)
		if !tried {
			continue
		}
		c.Problem = "" // of the container before
		c.note(took, err)
		if pinged++; err == nil || pinged == maxPinged {
			return c
		}
	}
	if pinged == 0 {
		c.Skipped = "no container of this host that can be looked into has a way out"
	}
	return c
}

// pingFrom pings from a container; not tried: it ended, is not to be seen from here, or has no way out, as on a network that is internal.
func (p *part) pingFrom(ctx context.Context, sandbox string, to netip.Addr) (took time.Duration, tried bool, err error) {
	container, err := p.m.cfg.Container(sandbox)
	if err != nil {
		return 0, false, err
	}
	defer container.Close()
	took, err = ping(ctx, container, p.test, to)
	return took, !errors.Is(err, errNoSocket), err
}

// vtepOf is the address of a member's VTEP, by what this host knows: who leads a test could name any.
func (p *part) vtepOf(member string) netip.Addr {
	members := p.cluster.Members()
	i := slices.IndexFunc(members, func(m discovery.Member) bool { return m.ID == member })
	if i < 0 {
		return netip.Addr{}
	}
	return members[i].VTEP.Addr()
}
