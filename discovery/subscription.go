package discovery

import (
	"cmp"
	"slices"
)

// subscription is an owner's to a network, and the owner's set if this node holds
// it: it does where it has subscribed as well. A set of an older incarnation
// serves until it is replaced.
type subscription struct {
	announcedNetwork
	set *set
}

func compareSubscriptions(a, b subscription) int { return cmp.Compare(a.Key, b.Key) }

func (s subscription) compareKey(key string) int { return cmp.Compare(s.Key, key) }

// subscription is the owner's to a network, or nil.
func (o *owner) subscription(key string) *subscription {
	at, found := slices.BinarySearchFunc(o.subscriptions, key, subscription.compareKey)
	if !found {
		return nil
	}
	return &o.subscriptions[at]
}

func (o *owner) set(key string) *set {
	if sub := o.subscription(key); sub != nil {
		return sub.set
	}
	return nil
}

// since is the version below which the owner's sets are over.
func (o *owner) since(key string) uint64 {
	if sub := o.subscription(key); sub != nil {
		return sub.since
	}
	return 0
}

// resubscribe replaces the owner's subscriptions by those of an announcement, and
// keeps what sets it can. Within an incarnation none begins before it was known
// to: what was on disk is a mark.
func (o *owner) resubscribe(networks []announcedNetwork, sameIncarnation bool, keep func(*subscription) bool) {
	subs := make([]subscription, len(networks))
	for i, n := range networks {
		if sameIncarnation {
			n.since = max(n.since, o.since(n.Key))
		}
		subs[i] = subscription{n, o.set(n.Key)}
	}
	slices.SortStableFunc(subs, compareSubscriptions)
	o.subscriptions = slices.CompactFunc(subs, func(a, b subscription) bool { return a.Key == b.Key })
	for i := range o.subscriptions {
		if sub := &o.subscriptions[i]; sub.set != nil && !keep(sub) {
			sub.set = nil
		}
	}
}

func (o *owner) subscribe(s subscription) {
	at, _ := slices.BinarySearchFunc(o.subscriptions, s.Key, subscription.compareKey)
	o.subscriptions = slices.Insert(o.subscriptions, at, s)
}

func (o *owner) unsubscribe(key string) {
	o.subscriptions = slices.DeleteFunc(o.subscriptions, func(s subscription) bool { return s.Key == key })
}
