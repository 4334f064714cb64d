package discovery

import (
	"fmt"

	"github.com/hashicorp/memberlist"
)

// userMessageVersion is the first byte of a user message: one that is none of discovery's own, and goes from one member
// to another for whoever uses the cluster. Then come the sender's ID and the text.
const userMessageVersion = 2

// Send takes a user message to a member: in a datagram where it fits, over a stream otherwise. It may get lost, and arrive
// late or twice. The error says that it can't be sent.
func (c *Cluster) Send(member string, text []byte) error {
	if len(text) > maxMessage {
		return fmt.Errorf("message to %s: %d bytes, at most %d", member, len(text), maxMessage)
	}
	id, err := parseNodeID(member)
	if err != nil {
		return err
	}
	c.mu.Lock()
	o := c.core.owners[id]
	known := o != nil && o.member
	var to recipient
	deaf := known && o.deaf
	if known {
		to = recipient{id, o.address}
	}
	c.mu.Unlock()
	if !known {
		return fmt.Errorf("message to %s: no member", member)
	}
	b := append(append([]byte{userMessageVersion}, c.identity.id[:]...), text...)
	if len(b) > maxDatagram || deaf {
		c.gossip.sendReliable(to, b)
		return nil
	}
	return c.gossip.list.Load().SendToAddress(memberlist.Address{Addr: to.address.String(), Name: to.id.String()}, b)
}

// receiveUserMessage gives a user message to Config.Receive; false when the message is no such.
func (c *Cluster) receiveUserMessage(m message) bool {
	const header = 1 + len(nodeID{})
	if len(m) == 0 || m[0] != userMessageVersion {
		return false
	}
	if len(m) < header || c.cfg.Receive == nil {
		c.reject("user_message")
		return true
	}
	from := nodeID(m[1:header])
	if !c.affiliation.knows(from) {
		c.reject("cluster")
		return true
	}
	c.cfg.Receive(from.String(), m[header:])
	return true
}
