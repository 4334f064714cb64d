package connectivity

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/discovery"
)

// maxAsked bounds of how many containers it is tried whether one has a way out.
const maxAsked = 8

// own is this host's own network namespace.
type own struct{}

func (own) Do(f func() error) error { return f() }

// egress has a container of this host ping another host's VTEP through Docker's bridge. Where the host itself gets no answer it says nothing.
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
	sandboxes := p.m.cfg.Overlay.Sandboxes()
	for _, path := range sandboxes[:min(len(sandboxes), maxAsked)] {
		container, err := p.m.cfg.Container(path)
		if err != nil {
			continue // it ended
		}
		took, err := ping(ctx, container, p.test, vtep)
		container.Close()
		if errors.Is(err, unix.ENETUNREACH) { // as on a network that is internal
			continue
		}
		c.note(took, err)
		return c
	}
	c.Skipped = "no container of this host has a way out"
	return c
}

// vtepOf is the address of a member's VTEP, by what this host knows: who leads a test could name any.
func (p *part) vtepOf(member string) netip.Addr {
	members := p.m.cluster.Members()
	i := slices.IndexFunc(members, func(m discovery.Member) bool { return m.ID == member })
	if i < 0 {
		return netip.Addr{}
	}
	return members[i].VTEP.Addr()
}
