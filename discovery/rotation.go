package discovery

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// A cluster's key is changed in three steps, each of which a node takes by itself, by what it knows of the others: a node that has a newer
// key gives it to those that lack it; where all have it they use it; where all that have it use it they refuse what is encrypted with the old one.
// So nobody is cut off who is there, and nobody has to be asked. A node that is down holds it up until it is forgotten, unless the operator
// says not to wait. One that was away in between is told by the others' keys how far they are.

const (
	// rotationInterval is the time between a node's looks at a rotation, and until it gives the key once more to a node that lacks it.
	rotationInterval = time.Second
	// dwell is between two steps: a node that is about to join with the old key is a member by then.
	dwell = 2 * time.Second
	// relieveAfter is when a node that got the key gives it to others, where nobody before it has: by then it knows who else has it.
	relieveAfter = 5 * time.Second
	// maxAhead is how much later than now, or than the newest key known, a key may have been made: one from a year ahead would be the newest
	// for a year.
	maxAhead = 24 * time.Hour
)

// keyMessageVersion is the first byte of a message with a key. Then come the sender's ID, a byte that is 1 where nobody is waited for who is
// down, and the token.
const keyMessageVersion = 3

// keyMessage is a key that another member gives.
type keyMessage struct {
	token Token
	hurry bool
}

// KeyStatus is one gossip key, and which hosts have it.
type KeyStatus struct {
	Fingerprint string   `json:"fingerprint"`
	InUse       bool     `json:"in_use"`  // this node encrypts with it
	UsedBy      []string `json:"used_by"` // hosts that encrypt with it, this one included
	Have        []string `json:"have"`
	Lack        []string `json:"lack"` // with their state, hosts that left excepted
}

var (
	errInsecure = errors.New("this host's cluster is open to everybody (--insecure): it has no token")
	errAlone    = errors.New("this host has met none of those that --join names: they would not learn of the new token; start it when it has, or without --join")
)

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
	others := len(c.Members()) > 1
	c.keysMu.Lock()
	defer c.keysMu.Unlock()
	switch n := len(c.keys.tokens); {
	case n == 0:
		return Fingerprint{}, errInsecure
	case n == 1 && !others && len(c.cfg.Join) > 0:
		return Fingerprint{}, errAlone
	case n == 1:
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
	c.stepAt = time.Now().Add(dwell)
	return c.setKeys(next)
}

// Keyring lists this node's keys, the one in use first, then those that only others still have, who let hosts in with them. Hosts that left do
// not count; those that are down are named as lacking a key, for they are to come back.
func (c *Cluster) Keyring() []KeyStatus {
	members := c.Members()
	c.keysMu.Lock()
	defer c.keysMu.Unlock()
	own := c.keys.fingerprints().list()
	all := []KeyStatus{}
	for i, f := range slices.Concat(own, othersKeys(own, members)) {
		s := KeyStatus{Fingerprint: f.String(), InUse: i == 0 && len(own) > 0, UsedBy: []string{}, Have: []string{}, Lack: []string{}}
		for _, m := range members {
			at := slices.Index(m.Keys, f)
			switch {
			case m.State == StateLeft || m.Replaced:
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

// othersKeys are the keys that members have who are up, and this node has not.
func othersKeys(own []Fingerprint, members []Member) (keys []Fingerprint) {
	for _, m := range members {
		if m.Self || m.State != StateAlive && m.State != StateSuspect {
			continue
		}
		for _, f := range m.Keys {
			if !slices.Contains(own, f) && !slices.Contains(keys, f) {
				keys = append(keys, f)
			}
		}
	}
	return keys
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
		case m := <-c.given:
			if err := c.hearKey(m); err != nil && c.limiter.allow(err.Error()) {
				c.log.WithError(err).Warn("the cluster's new token was not taken: this host holds its rotation up, and is cut off where that ends without it")
			}
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
	members = slices.DeleteFunc(members, func(m Member) bool {
		return m.State == StateLeft || m.Replaced || m.State == StateDead && c.hurry
	})
	c.giveKey(next, members)
	using := c.keys.tokens[0].same(next)
	var what string
	var step keyring
	passed := c.keys.passed(next, members)
	switch {
	case !passed && time.Now().Before(c.stepAt):
		return true
	case !using && (passed || !slices.ContainsFunc(members, func(m Member) bool { return !slices.Contains(m.Keys, f) })):
		what, step = "the other hosts have the new token %s: this one encrypts with it", c.keys.using(next)
	case using && !slices.ContainsFunc(members, func(m Member) bool { return slices.Index(m.Keys, f) > 0 }): // who came with the old one since does not count
		what, step = "the other hosts use the new token %s: the old one lets nobody in any more", c.keys.only(next)
	default:
		return true
	}
	c.stepAt = time.Now().Add(dwell)
	if err := c.setKeys(step); err == nil {
		c.log.Infof(what, f)
	} else if c.limiter.allow(err.Error()) {
		c.log.WithError(err).Error("this host is not on to the new token")
	}
	return len(c.keys.tokens) > 1
}

// passed says that some node has gone on to a key, and left behind the one that is in use here.
func (r *keyring) passed(next Token, members []Member) bool {
	return slices.ContainsFunc(members, func(m Member) bool {
		return slices.Contains(m.Keys, next.fingerprint()) && !slices.Contains(m.Keys, r.tokens[0].fingerprint())
	})
}

// using puts a key before the others.
func (r *keyring) using(t Token) keyring {
	at := r.find(t)
	return keyring{slices.Insert(slices.Delete(slices.Clone(r.tokens), at, at+1), 0, t), r.retired}
}

// giveKey gives a key to the members that are to hear of it.
func (c *Cluster) giveKey(t Token, members []Member) {
	now := time.Now()
	if now.Before(c.giveAt) {
		return
	}
	c.giveAt = now.Add(rotationInterval)
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
	members = slices.DeleteFunc(slices.Clone(members), func(m Member) bool { return m.State != StateAlive && m.State != StateSuspect })
	has := func(m Member) bool { return slices.Contains(m.Keys, f) }
	switch first := slices.IndexFunc(members, has); {
	case c.asked:
		return slices.DeleteFunc(members, func(m Member) bool { return m.Self })
	case first < 0 || !members[first].Self:
		return nil
	}
	return slices.DeleteFunc(members, has)
}

// receiveKey takes a message with a key from another member; false when the message is no such.
func (c *Cluster) receiveKey(m message) bool {
	if len(m) == 0 || m[0] != keyMessageVersion {
		return false
	}
	k, err := decodeKeyMessage(m)
	if err != nil || !c.affiliation.knows(nodeID(m[1:])) {
		c.reject("key_message")
		return true
	}
	select {
	case c.given <- k:
	default: // it is given again
	}
	return true
}

func decodeKeyMessage(m message) (k keyMessage, err error) {
	const header = 1 + len(nodeID{}) + 1
	if len(m) < header || m[header-1] > 1 {
		return k, errors.New("malformed")
	}
	k.hurry = m[header-1] == 1
	k.token, err = decodeToken(m[header:])
	return k, err
}

// makeRoom forgets the oldest of the keys that nobody uses, for a newer one: where many begin a rotation at once the newest is to remain.
func (c *Cluster) makeRoom(t Token, members []Member) bool {
	oldest := -1
	for i, own := range c.keys.tokens[1:] {
		used := slices.ContainsFunc(members, func(m Member) bool { return len(m.Keys) > 0 && m.Keys[0] == own.fingerprint() })
		if !used && t.after(own) && (oldest < 0 || c.keys.tokens[oldest].after(own)) {
			oldest = i + 1
		}
	}
	if oldest < 0 {
		return false
	}
	c.keys.tokens = slices.Delete(slices.Clone(c.keys.tokens), oldest, oldest+1)
	return true
}

func (c *Cluster) hearKey(k keyMessage) error {
	members := c.Members()
	c.keysMu.Lock()
	defer c.keysMu.Unlock()
	n, f := len(c.keys.tokens), k.token.fingerprint()
	switch {
	case n == 0 || slices.Contains(c.keys.retired, f):
		return nil // said too late
	case c.keys.find(k.token) >= 0:
	case k.token.made > max(uint64(time.Now().UnixMilli()), c.keys.newest().made)+uint64(maxAhead.Milliseconds()):
		return fmt.Errorf("token %s: it was made %s, later than this host's clock says: set the clocks right; where it was made stop overlane, remove keyring.json, and start it with the cluster's --token", f, time.UnixMilli(int64(k.token.made)).UTC().Format(time.RFC3339))
	default:
		if n == maxKeys && !c.makeRoom(k.token, members) {
			return nil // a newer one is on its way everywhere
		}
		if err := c.takeKey(k.token); err != nil {
			return err
		}
		c.giveAt = time.Now().Add(relieveAfter)
	}
	if len(c.keys.tokens) > 1 && c.keys.newest().same(k.token) {
		c.hurry = c.hurry || k.hurry
	}
	return nil
}
