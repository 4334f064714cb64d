package testbed

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// ID is one of Docker's: 64 digits, of which the first tell the number.
func ID(number int) string { return fmt.Sprintf("%011d%053d", number, 0) }

// Network has the daemon make a network with a VNI, and further options, as Docker does.
func (d *Daemon) Network(ctx context.Context, id, subnet string, vni int, more ...string) error {
	options := map[string]string{"vni": fmt.Sprint(vni)}
	for _, name := range more {
		options[name] = ""
	}
	return d.Call(ctx, "NetworkDriver.CreateNetwork", map[string]any{
		"NetworkID": id,
		"IPv4Data":  []map[string]string{{"AddressSpace": "bench", "Pool": subnet}},
		"Options":   map[string]any{"com.docker.network.generic": options},
	}, nil)
}

// Endpoint is the interface of a container.
type Endpoint struct {
	Network string
	ID      string
	Address string // with its prefix length
	MAC     string // empty: the daemon's choice
	Sandbox string // path of the container's namespace
}

// Attach has the daemon make an endpoint, and gives the interface to the container, as Docker does.
func (d *Daemon) Attach(ctx context.Context, e Endpoint) error {
	err := d.Call(ctx, "NetworkDriver.CreateEndpoint", map[string]any{"NetworkID": e.Network, "EndpointID": e.ID,
		"Interface": map[string]string{"Address": e.Address, "MacAddress": e.MAC}}, nil)
	if err != nil {
		return err
	}
	var joined struct{ InterfaceName struct{ SrcName string } }
	err = d.Call(ctx, "NetworkDriver.Join", map[string]any{"NetworkID": e.Network, "EndpointID": e.ID, "SandboxKey": e.Sandbox}, &joined)
	if err != nil {
		return err
	}
	if err := move(joined.InterfaceName.SrcName, d.Namespace, e.Sandbox, e.Address); err != nil {
		return fmt.Errorf("move %s to %s: %w", joined.InterfaceName.SrcName, e.Sandbox, err)
	}
	return nil
}

// move takes an interface from a namespace to the one at a path, where it is eth0 and has an address.
func move(name, from, to, address string) error {
	source, err1 := netns.GetFromName(from)
	target, err2 := netns.GetFromPath(to)
	defer source.Close()
	defer target.Close()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	host, err := netlink.NewHandleAt(source)
	if err != nil {
		return err
	}
	defer host.Close()
	container, err := netlink.NewHandleAt(target)
	if err != nil {
		return err
	}
	defer container.Close()
	link, err := host.LinkByName(name)
	if err != nil {
		return err
	}
	if err := host.LinkSetNsFd(link, int(target)); err != nil {
		return err
	}
	return configure(container, name, address)
}

func configure(container *netlink.Handle, name, address string) error {
	link, err := container.LinkByName(name)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	if err := container.LinkSetName(link, "eth0"); err != nil {
		return err
	}
	if err := container.AddrAdd(link, addr); err != nil {
		return err
	}
	return container.LinkSetUp(link)
}
