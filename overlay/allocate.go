package overlay

import (
	"fmt"
	"maps"
	"strconv"
)

// allocation is the VNI of a swarm's network that this host, as a manager, allocated.
type allocation struct {
	ID  string `json:"id"` // the swarm's NetworkID, of all nodes
	VNI uint32 `json:"vni"`
}

// AllocateNetwork gives the options with which every node of a swarm creates a network: those given, the VNI unless
// they name the network, and whether it is encrypted where this host has a say in that. The manager that comes to lead asks again, and passes the options that the last one got; what it
// frees is freed there alone, so what is allocated here is avoided, but nobody is refused it.
func (o *Overlay) AllocateNetwork(id string, given map[string]string) (map[string]string, error) {
	opts, err := networkOptions.parse(given)
	if opts.all {
		return nil, networkOptions.bad(OptionAll, "true", "a swarm makes its networks on all nodes by itself: leave it out")
	}
	if err != nil {
		return nil, err
	}
	encrypted, err := o.encrypts(opts)
	if err != nil {
		return nil, err
	}
	options := map[string]string{}
	maps.Copy(options, given)
	if encrypted && !opts.encrypted { // by this host's --encrypt, which the nodes may lack
		options[OptionEncrypted] = "true"
	}
	if opts.name != "" {
		return options, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	vni := opts.vni
	if vni == 0 {
		if vni, err = o.allocateVNI(id); err != nil {
			return nil, err
		}
		options[OptionVNI] = strconv.FormatUint(uint64(vni), 10)
	}
	if err := o.store.put(bucketAllocations, id, allocation{id, vni}); err != nil {
		return nil, err
	}
	return options, nil
}

// allocateVNI is the VNI that a network has already, or else one that no other network has. Other managers derive the
// same from the ID, unless they know of other networks.
func (o *Overlay) allocateVNI(id string) (uint32, error) {
	allocations, err := load[allocation](o.store, bucketAllocations)
	if err != nil {
		return 0, err
	}
	taken := map[uint32]bool{}
	for _, a := range allocations {
		if a.ID == id {
			return a.VNI, nil
		}
		taken[a.VNI] = true
	}
	for try := 0; ; try++ {
		if vni := o.cluster.Resolve(fmt.Sprintf("swarm=%s/%d", id, try)); !taken[vni] {
			return vni, nil
		}
	}
}

// FreeNetwork gives an allocation back. One that is not known is no error.
func (o *Overlay) FreeNetwork(id string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.store.delete(bucketAllocations, id)
}
