package overlay

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/overlay/keyexchange"
)

const (
	// keyPatience is how long an exchange of keys may take before it is told: some messages may get lost.
	keyPatience = 5 * time.Second
	// rekeyPatience is likewise that of one for a new key: the old one is in use meanwhile.
	rekeyPatience = time.Minute
)

// EncryptionStatus is how packets of encrypted networks go to another host.
type EncryptionStatus struct {
	ID      string         `json:"id"`
	Host    string         `json:"host"` // empty, as is ID: nobody that gossips is there
	VTEP    netip.AddrPort `json:"vtep"`
	Cipher  string         `json:"cipher,omitempty"` // empty: there is no key yet
	SPI     string         `json:"spi,omitempty"`    // of packets to the host, in hexadecimal digits
	KeyAge  int64          `json:"key_age_seconds"`
	Packets uint64         `json:"packets"` // sent with the key
	Health
}

// Encryption says how packets of encrypted networks go to other hosts.
func (o *Overlay) Encryption() []EncryptionStatus {
	return o.encryption.status(len(o.cluster.Self().Keys) == 0)
}

// status lists the hosts with a part in an encrypted network here, by name.
func (e *encryption) status(open bool) []EncryptionStatus {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	all := []EncryptionStatus{}
	if e.exchange == nil {
		return all
	}
	peers := e.exchange.Status()
	for vtep, l := range e.links {
		if !l.needed {
			continue
		}
		s := EncryptionStatus{ID: l.member.ID, Host: l.member.Host, VTEP: vtep, Health: l.health(peers[l.member.ID], open, now)}
		if sa := l.sending(); sa != nil {
			out := l.wanted.Out
			s.Cipher, s.SPI, s.KeyAge, s.Packets = fmt.Sprintf("aes-%d-gcm", 8*len(out.Key)), fmt.Sprintf("%08x", out.SPI), int64(now.Sub(out.Made).Seconds()), e.packets(sa)
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b EncryptionStatus) int {
		return cmp.Or(strings.Compare(a.Host, b.Host), a.VTEP.Compare(b.VTEP))
	})
	return all
}

// lacks says that packets to the host at a link get lost, and since when.
func (l *link) lacks(p keyexchange.PeerStatus) (since time.Time, lacks bool) {
	since = l.since
	if p.Asked.After(since) {
		since = p.Asked
	}
	return since, l.sending() == nil || !p.Sure
}

// health says why packets do not go to the host at a link, or soon will not.
func (l *link) health(p keyexchange.PeerStatus, open bool, now time.Time) Health {
	since, lacks := l.lacks(p)
	advice := fmt.Sprintf("see what `overlane status members` and overlane's log there say, and that UDP port %d is open between the hosts", l.member.Addr.Port())
	switch {
	case open:
		return Health{"no key: the cluster has no token (--insecure), and keys would come from anybody", "give the cluster a token, or make its networks anew without -o encrypted"}
	case l.member.ID == "":
		return Health{"no key: nobody that gossips is at this VTEP", "make its networks anew without -o encrypted, or run overlane there"}
	case l.err != nil:
		return Health{"keys were agreed, and are not in force: " + l.err.Error(), "nothing, unless this lasts: overlane tries again"}
	case lacks && now.Sub(since) > keyPatience:
		return Health{"no key yet: " + l.silence(p, since), advice}
	case !lacks && !p.Asked.IsZero() && now.Sub(p.Asked) > rekeyPatience:
		return Health{"a new key is due, and the old one is in use: " + l.silence(p, since), advice}
	}
	return Health{}
}

// silence says what the host at a link owes a word on since a time.
func (l *link) silence(p keyexchange.PeerStatus, since time.Time) string {
	at := since.Local().Format(time.TimeOnly)
	if p.Heard.After(p.Asked) {
		return fmt.Sprintf("host %s does not hear what this host says of its keys since %s", l.member.Host, at)
	}
	return fmt.Sprintf("host %s does not answer since %s", l.member.Host, at)
}

// tell logs which hosts have no keys for long, and when they have them. It is called with the lock held.
func (e *encryption) tell(log logrus.FieldLogger) {
	now, peers := time.Now(), e.exchange.Status()
	for vtep, l := range e.links {
		log := log.WithFields(logrus.Fields{"host": l.member.Host, "vtep": vtep})
		since, lacks := l.lacks(peers[l.member.ID])
		lacks = lacks && l.needed && now.Sub(since) > keyPatience
		switch {
		case lacks && !l.told:
			log.Warn("no key for encrypted networks was agreed: packets to this host are dropped, and `overlane status` says why")
		case !lacks && l.told && l.needed:
			log.Info("a key for encrypted networks is agreed now")
		}
		l.told = lacks
	}
}
