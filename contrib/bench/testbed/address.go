package testbed

import (
	"context"
	"net/netip"
)

// Pool has the daemon use a pool of addresses, by a name for the other calls.
func (d *Daemon) Pool(ctx context.Context, subnet string) (pool string, err error) {
	var answer struct{ PoolID string }
	err = d.Call(ctx, "IpamDriver.RequestPool", map[string]string{"Pool": subnet}, &answer)
	return answer.PoolID, err
}

// Address takes one of the pool, with its subnet's prefix length.
func (d *Daemon) Address(ctx context.Context, pool string) (netip.Prefix, error) {
	var answer struct{ Address netip.Prefix }
	err := d.Call(ctx, "IpamDriver.RequestAddress", map[string]string{"PoolID": pool}, &answer)
	return answer.Address, err
}

// Release gives an address back.
func (d *Daemon) Release(ctx context.Context, pool string, address netip.Addr) error {
	return d.Call(ctx, "IpamDriver.ReleaseAddress", map[string]string{"PoolID": pool, "Address": address.String()}, nil)
}
