package ipam

import (
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"go.etcd.io/bbolt"

	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/internal/bubble"
)

// pair is a cluster of this host and another, which keeps what is sent to that.
type pair struct {
	alone
	mu    sync.Mutex
	state discovery.State
	sent  [][]byte
}

func (p *pair) Members() []discovery.Member {
	p.mu.Lock()
	defer p.mu.Unlock()
	return []discovery.Member{{ID: "b", Host: "host-b", State: p.state}}
}

func (p *pair) Send(_ string, text []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, text)
	return nil
}

func (p *pair) becomes(state discovery.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state, p.sent = state, nil
}

// A host that is back is answered at once, though this one, at rest, looks only now and then who is up.
func TestBackHostIsAnsweredAtOnce(t *testing.T) {
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	bubble.Test(t, func(t *testing.T) {
		subnet := netip.MustParsePrefix("10.20.0.0/24")
		m, err := Open(Config{DB: db, Log: logrus.New(), InUse: func() InUse { return InUse{subnet: nil} }})
		if err != nil {
			t.Fatal(err)
		}
		other := &pair{state: discovery.StateLeft}
		m.Attach(other)
		defer m.Close()
		if _, _, err := m.RequestPool("", subnet, netip.Prefix{}, false); err != nil {
			t.Fatal(err)
		}
		other.becomes(discovery.StateDead)
		time.Sleep(2*idleTick + time.Millisecond) // it is known to be down, and the next look is far
		other.becomes(discovery.StateAlive)
		text, err := (&message{Key: SubnetKey(subnet), Subnet: subnet, Reply: true, Number: number{1, 1}, Host: "host-b"}).encode()
		if err != nil {
			t.Fatal(err)
		}
		m.Receive("b", text)
		synctest.Wait()
		other.mu.Lock()
		defer other.mu.Unlock()
		if len(other.sent) == 0 {
			t.Error("a host that is up again is not answered before the next look")
		}
	})
}
