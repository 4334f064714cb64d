package overlay

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"

	"github.com/overlane/overlane/overlay/ipam/prefix"
)

// egressBridge is Docker's bridge by which containers reach the outside, beside their interfaces on networks that have no gateway of
// their own (libnetwork's libnGWNetwork). Docker makes it with the first such container.
const egressBridge = "docker_gwbridge"

// dockerPools are those of which Docker takes a subnet that nobody named, in this order (moby's ipamutils, local scope). An engine may
// have been given others as default-address-pools.
var dockerPools = []prefix.DefaultPool{
	{Base: netip.MustParsePrefix("172.16.0.0/12"), Bits: 16},
	{Base: netip.MustParsePrefix("192.168.0.0/16"), Bits: 20},
}

// firstDockerPool is where Docker begins: 172.16.0.0/16 is not among its pools.
var firstDockerPool = netip.MustParseAddr("172.17.0.0")

// Egress is what Docker's egress bridge has, or will take.
type Egress struct {
	Exists  bool
	Subnets []netip.Prefix // where it does not exist, the one that Docker would give it
}

// DockerEgress looks at this host.
func DockerEgress() (Egress, error) {
	link, err := netlink.LinkByName(egressBridge)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		used, err := usedSubnets()
		if err != nil {
			return Egress{}, err
		}
		return Egress{Subnets: nextDockerSubnet(used)}, nil
	}
	if err != nil {
		return Egress{}, fmt.Errorf("look for %s: %w", egressBridge, err)
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return Egress{}, fmt.Errorf("addresses of %s: %w", egressBridge, err)
	}
	egress := Egress{Exists: true}
	for _, a := range addrs {
		if p, ok := netipx.FromStdIPNet(a.IPNet); ok && !p.Addr().IsLinkLocalUnicast() {
			egress.Subnets = append(egress.Subnets, p.Masked())
		}
	}
	return egress, nil
}

func nextDockerSubnet(used func(netip.Prefix) bool) []netip.Prefix {
	for _, pool := range dockerPools {
		for addr := pool.Base.Addr(); pool.Base.Contains(addr); {
			subnet := netip.PrefixFrom(addr, pool.Bits)
			if !addr.Less(firstDockerPool) && !used(subnet) {
				return []netip.Prefix{subnet}
			}
			addr = netipx.RangeOfPrefix(subnet).To().Next()
		}
	}
	return nil
}

// checkEgress refuses subnets that the egress bridge has: no container would start that has both. Of one that it may take, since Docker
// does not know it, it warns: the engine may have been given other pools. An internal network has no egress.
func (o *Overlay) checkEgress(spec NetworkSpec) error {
	if spec.Internal {
		return nil
	}
	egress, err := o.cfg.Egress()
	if err != nil { // what can't be found out refuses nothing
		o.log.WithError(err).Warn("what subnet docker_gwbridge has is not known")
		return nil
	}
	for _, pool := range spec.Pools {
		i := slices.IndexFunc(egress.Subnets, pool.Overlaps)
		switch {
		case i < 0 || pool.Bits() == 0: // none, or what Docker's null driver gives in place of a subnet
		case egress.Exists:
			return fmt.Errorf("subnet %s: Docker's egress bridge %s has %s, and a container would be on both: give another --subnet, or --internal", pool, egressBridge, egress.Subnets[i])
		case o.addresses.KeyOf(pool) != "":
			o.log.Warnf("subnet %s: unless Docker was given other default-address-pools, it gives %s to its egress bridge %s too, with the first container, which then can't start: create the network with another --subnet or --internal, or make the bridge first with another subnet: docker network create --subnet SUBNET -o com.docker.network.bridge.name=%s -o com.docker.network.bridge.enable_icc=false %s",
				pool, egress.Subnets[i], egressBridge, egressBridge, egressBridge)
		}
	}
	return nil
}
