package discovery

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// A cluster's key is changed in three steps, each of which a node takes by itself, by what it knows of the others: a node that has a newer
// key gives it to those that lack it; where all have it they use it; where all use it they refuse what is encrypted with the old one. So
// nobody is cut off who is there, and nobody has to be asked. A node that is down holds it up, unless the operator says not to wait.

// rotationInterval is the time between a node's looks at a rotation, and until it gives the key once more to a node that lacks it.
const rotationInterval = time.Second

// keyMessageVersion is the first byte of a message with a key. Then come the sender's ID, a byte that is 1 where nobody is waited for who is
// down, and the token.
const keyMessageVersion = 3

// maxAhead is how much later a key may have been made than this node's clock says: a key from a year ahead would be the newest for a year.
const maxAhead = 24 * time.Hour

// KeyStatus is one gossip key, and which hosts have it.
type KeyStatus struct {
	Fingerprint string   `json:"fingerprint"`
	InUse       bool     `json:"in_use"`  // this node encrypts with it
	UsedBy      []string `json:"used_by"` // hosts that encrypt with it, this one included
	Have        []string `json:"have"`
	Lack        []string `json:"lack"` // with their state, hosts that left excepted
}

var errInsecure = errors.New("this host's cluster is open to everybody (--insecure): it has no token")

// Token is what lets others into this node's cluster.
func (c *Cluster) Token() (Token, error) {
	c.keysMu.Lock()
	defer c.keysMu.Unlock()
	if len(c.keys.tokens) == 0 {
		return Token{}, errInsecure
	}
	return c.keys.tokens[0], nil
}

// RotateToken begins to change the cluster's key for a new one; the old one lets nobody in once all members that are not gone use the new
// one, or now, once all that are up do. A rotation that is under way is gone on with.
func (c *Cluster) RotateToken(now bool) (Fingerprint, error) {
	c.keysMu.Lock()
	defer c.keysMu.Unlock()
	switch len(c.keys.tokens) {
	case 0:
		return Fingerprint{}, errInsecure
	case 1:
		next := NewToken()
		next.made = max(next.made, c.keys.tokens[0].made+1)
		if err := c.takeKey(next); err != nil {
			return Fingerprint{}, err
		}
	}
	c.hurry, c.asked = now, now
	signal(c.rotating)
	return c.keys.newest().fingerprint(), nil
}

// takeKey adds a key, of which the keyring has room.
func (c *Cluster) takeKey(t Token) error {
	next := c.keys
	next.tokens = append(slices.Clone(c.keys.tokens), t)
	return c.setKeys(next)
}

// Keyring lists this node's keys, the one in use first. Hosts that left do not count; those that are down do, for they are to come back.
func (c *Cluster) Keyring() []KeyStatus {
	members := c.Members()
	c.keysMu.Lock()
	defer c.keysMu.Unlock()
	all := []KeyStatus{}
	for i, f := range c.keys.fingerprints().list() {
		s := KeyStatus{Fingerprint: f.String(), InUse: i == 0, UsedBy: []string{}, Have: []string{}, Lack: []string{}}
		for _, m := range members {
			at := slices.Index(m.Keys, f)
			switch {
			case m.State == StateLeft:
				continue
			case at < 0:
				s.Lack = append(s.Lack, fmt.Sprintf("%s (%s)", m.Host, m.State))
				continue
			case at == 0:
				s.UsedBy = append(s.UsedBy, m.Host)
			}
			s.Have = append(s.Have, m.Host)
		}
		all = append(all, s)
	}
	return all
}

// runRotation takes the node's steps.
func (c *Cluster) runRotation() {
	for {
		var again <-chan time.Time
		if c.stepRotation() {
			again = time.After(rotationInterval)
		}
		select {
		case <-c.ctx.Done():
			return
		case <-c.rotating:
		case <-again:
		}
	}
}

// stepRotation takes the step that is due, and says whether there are more to come.
func (c *Cluster) stepRotation() (more bool) {
	members := c.Members()
	c.keysMu.Lock()
	defer c.keysMu.Unlock()
	if len(c.keys.tokens) < 2 {
		c.hurry, c.asked = false, false
		return false
	}
	next := c.keys.newest()
	f := next.fingerprint()
	counts := func(m Member) bool { return m.State == StateAlive || m.State != StateLeft && !c.hurry }
	members = slices.DeleteFunc(members, func(m Member) bool { return !counts(m) })
	lacks := func(m Member) bool { return !slices.Contains(m.Keys, f) }
	c.giveKey(next, members)
	var err error
	switch {
	case slices.ContainsFunc(members, lacks):
	case !c.keys.tokens[0].same(next):
		err = c.setKeys(c.keys.using(next))
		c.log.Infof("all hosts have the new token %s: this one encrypts with it", f)
	case !slices.ContainsFunc(members, func(m Member) bool { return m.Keys[0] != f }):
		err = c.setKeys(c.keys.only(next))
		c.log.Infof("all hosts use the new token %s: the old one lets nobody in any more", f)
	}
	if err != nil && c.limiter.allow(err.Error()) {
		c.log.WithError(err).Error("the new token is not on disk yet")
	}
	return len(c.keys.tokens) > 1
}

// using puts a key before the others.
func (r *keyring) using(t Token) keyring {
	at := r.find(t)
	return keyring{slices.Insert(slices.Delete(slices.Clone(r.tokens), at, at+1), 0, t), r.retired}
}

// giveKey gives a key to the members that are to hear of it.
func (c *Cluster) giveKey(t Token, members []Member) {
	if time.Since(c.gave) < rotationInterval {
		return
	}
	c.gave = time.Now()
	text := append([]byte{keyMessageVersion}, c.identity.id[:]...)
	text = append(text, 0)
	if c.hurry {
		text[len(text)-1] = 1
	}
	text = append(text, t.encode()...)
	for _, m := range c.unaware(t.fingerprint(), members) {
		if id, err := parseNodeID(m.ID); err == nil {
			c.gossip.sendReliable(recipient{id, m.Addr}, text)
		}
	}
}

// unaware are the members that this node tells of a key: those that lack it, where this node is the first that has it, since of a thousand one is
// enough; and all, where its operator does not wait for those that are down.
func (c *Cluster) unaware(f Fingerprint, members []Member) []Member {
	members = slices.DeleteFunc(slices.Clone(members), func(m Member) bool { return m.State != StateAlive })
	has := func(m Member) bool { return slices.Contains(m.Keys, f) }
	switch first := slices.IndexFunc(members, has); {
	case c.asked:
		return slices.DeleteFunc(members, func(m Member) bool { return m.Self })
	case first < 0 || !members[first].Self:
		return nil
	}
	return slices.DeleteFunc(members, has)
}

// receiveKey takes a key from another member; false when the message is none with a key.
func (c *Cluster) receiveKey(m message) bool {
	if len(m) == 0 || m[0] != keyMessageVersion {
		return false
	}
	t, hurry, err := decodeKeyMessage(m, time.Now())
	if err == nil && !c.affiliation.knows(nodeID(m[1:])) {
		err = errors.New("its sender is no member")
	}
	if err == nil {
		err = c.hearKey(t, hurry)
	}
	if err != nil {
		c.reject("key_message")
		c.log.WithError(err).Debug("a key of another member was refused")
	}
	return true
}

func decodeKeyMessage(m message, now time.Time) (t Token, hurry bool, err error) {
	const header = 1 + len(nodeID{}) + 1
	if len(m) < header || m[header-1] > 1 {
		return t, false, errors.New("malformed")
	}
	t, err = decodeToken(m[header:])
	if err == nil && t.made > uint64(now.Add(maxAhead).UnixMilli()) {
		err = errors.New("it was made later than now")
	}
	return t, m[header-1] == 1, err
}

func (c *Cluster) hearKey(t Token, hurry bool) error {
	c.keysMu.Lock()
	defer c.keysMu.Unlock()
	switch n := len(c.keys.tokens); {
	case slices.Contains(c.keys.retired, t.fingerprint()):
		return errors.New("it was in use before")
	case c.keys.find(t) >= 0 && (c.hurry || !hurry):
		return nil
	case c.keys.find(t) >= 0:
	case n == 0 || n == maxKeys:
		return fmt.Errorf("this node has %d keys", n)
	default:
		if err := c.takeKey(t); err != nil {
			return err
		}
	}
	c.hurry = c.hurry || hurry
	signal(c.rotating)
	return nil
}
