package overlay

import (
	"cmp"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/overlane/overlane/hostnet"
	"github.com/overlane/overlane/names"
)

const (
	namesInterval = time.Second // between looks whether names have changed
	hearTime      = 5 * time.Second
	checkTurns    = 10 // looks for names between two at the interfaces: somebody may have changed them
)

// attached is what this host has of attachments.
type attached struct {
	changing sync.Mutex // held while one is made or removed

	mu         sync.Mutex
	interfaces map[string]hostnet.Interface // by the ID of the endpoint
	failure    string                       // why the names are not written; empty: they are

	writing sync.Mutex // guards all below
	seen    uint64     // changes of the table that are written
	written bool       // there may be something of ours
}

func (a *attached) any() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.interfaces) > 0
}

func (a *attached) has(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(slices.Collect(maps.Values(a.interfaces)), func(i hostnet.Interface) bool { return i.Name == name })
}

// shut keeps other networks' containers from the interface of an attachment, before there is one.
func (o *Overlay) shut(ep *endpoint) error {
	o.attached.mu.Lock()
	defer o.attached.mu.Unlock()
	o.attached.interfaces[ep.ID] = ep.hostInterface()
	return o.isolate()
}

// unshut takes that back, when there is no interface any more.
func (o *Overlay) unshut(ep *endpoint) error {
	o.attached.mu.Lock()
	defer o.attached.mu.Unlock()
	delete(o.attached.interfaces, ep.ID)
	return o.isolate()
}

// isolate is called with the lock held.
func (o *Overlay) isolate() error {
	all := slices.SortedFunc(maps.Values(o.attached.interfaces), func(a, b hostnet.Interface) int { return cmp.Compare(a.Name, b.Name) })
	return o.cfg.Host.Isolate(all)
}

func (ep *endpoint) hostInterface() hostnet.Interface {
	return hostnet.Interface{Name: ep.Host.Name, Alias: ep.alias(), Addrs: ep.Host.Addrs}
}

// runAttachments keeps interfaces and names as they are to be, until the overlay is closed.
func (o *Overlay) runAttachments() {
	ticker := time.NewTicker(namesInterval)
	defer ticker.Stop()
	for turn := 0; ; turn++ {
		if turn%checkTurns == 0 {
			o.unmakeUnused()
			if o.attached.any() {
				o.checkInterfaces()
				o.forgetWritten()
			}
		}
		o.refreshNames()
		select {
		case <-o.ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// checkInterfaces has what was taken from an interface given to it again, and one that is gone made anew.
func (o *Overlay) checkInterfaces() {
	o.mu.RLock()
	ids := slices.Collect(maps.Keys(o.networks))
	o.mu.RUnlock()
	for _, id := range ids {
		n, unlock, err := o.lock(id)
		if err != nil {
			continue // deleted meanwhile
		}
		if ep := n.ownEndpoint(); ep != nil && ep.hasPort && ep.setUp {
			o.checkInterface(n, ep)
		}
		unlock()
	}
}

func (o *Overlay) checkInterface(n *network, ep *endpoint) {
	err := o.cfg.Host.Check(ep.hostInterface())
	if err == nil {
		return
	}
	n.logOf(ep).WithError(err).Warn("this host's attachment to the network is set up again")
	ep.setUp = false
	ep.retry.next = time.Time{}
	o.noteFailure()
}

// setUpInterface gives an attachment's interface what it is to have. One that is gone is made anew with the next try.
func (o *Overlay) setUpInterface(ep *endpoint) error {
	err := o.cfg.Host.SetUp(ep.hostInterface())
	if errors.Is(err, hostnet.ErrGone) {
		if failed := o.cfg.Datapath.DelPort(ep.port); failed != nil {
			return errors.Join(err, failed)
		}
		ep.hasPort = false
	}
	ep.setUp = err == nil
	return err
}

// forgetWritten has the names be compared with what stands in the file.
func (o *Overlay) forgetWritten() {
	o.attached.writing.Lock()
	defer o.attached.writing.Unlock()
	o.attached.seen = 0
}

// refreshNames has this host find the containers of its attachments' networks, and those alone.
func (o *Overlay) refreshNames() {
	a := &o.attached
	a.writing.Lock()
	defer a.writing.Unlock()
	if !a.any() && !a.written {
		return
	}
	all := o.listAttachments()
	var keys []string
	for _, at := range all {
		keys = append(keys, at.Network)
	}
	changes := o.cfg.Table.Changes() + 1
	if a.seen == changes || o.hearsStill(keys) {
		return
	}
	err := o.cfg.Host.WriteNames(hostsLines(o.cfg.Table.Entries(keys), all, o.hosts()))
	a.noteWritten(o, err)
	if err == nil {
		a.seen, a.written = changes, len(keys) > 0
	}
}

// hearsStill says that this daemon has started lately and has not heard from all hosts who is on the networks: what the last one wrote is
// better than that.
func (o *Overlay) hearsStill(keys []string) bool {
	return time.Since(o.started) < hearTime && slices.ContainsFunc(keys, func(key string) bool { return !o.cluster.Complete(key) })
}

// noteWritten keeps why the names are not written, and says it once.
func (a *attached) noteWritten(o *Overlay, err error) {
	failure := ""
	if err != nil {
		failure = err.Error()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if failure != a.failure && failure != "" {
		o.log.WithError(err).Error("this host does not find containers of the networks that it is attached to by name: overlane tries again")
	}
	a.failure = failure
}

// hosts are the names of the cluster's hosts: they stay whose they are, or a host would look for another by an address that it has on a
// network, and --join for one that is there only later.
func (o *Overlay) hosts() map[string]bool {
	all := map[string]bool{}
	for _, m := range o.cluster.Members() {
		name := strings.ToLower(m.Host)
		first, _, _ := strings.Cut(name, ".")
		all[name], all[first] = true, true
	}
	return all
}

// hostsLines are those of the addresses that this host can reach, some have no IPv6, under names that are no host's.
func hostsLines(entries []names.Entry, all []Attachment, hosts map[string]bool) (lines []hostnet.HostsLine) {
	reached := map[string][]netip.Prefix{}
	for _, at := range all {
		reached[at.Network] = at.Addrs
	}
	for _, e := range entries {
		if slices.ContainsFunc(reached[e.Network], func(own netip.Prefix) bool { return own.Addr().Is4() == e.Addr.Is4() }) {
			lines = append(lines, hostnet.HostsLine{Addr: e.Addr, Names: slices.DeleteFunc(e.Names, func(name string) bool { return hosts[strings.ToLower(name)] })})
		}
	}
	return lines
}
