package discovery

import (
	"bytes"
	"sync"
	"testing"
	"time"
)

// What one member sends another gets whole, short or long, with the sender's name; nobody else gets it.
func TestUserMessagesArrive(t *testing.T) {
	onLAN(t, func(t *testing.T, l *lan) {
		var mu sync.Mutex
		got := map[string][][]byte{} // receiver and sender
		receive := func(host string) nodeOption {
			return func(c *Config) {
				c.Receive = func(from string, text []byte) {
					mu.Lock()
					defer mu.Unlock()
					got[host+from] = append(got[host+from], text)
				}
			}
		}
		a := startNode(t, l.listen, 1, withKey(secret), receive("a"))
		b := startNode(t, l.listen, 2, withKey(secret), receive("b"), withJoin(a))
		b.waitState(10*time.Second, a, StateAlive)
		a.waitState(10*time.Second, b, StateAlive)
		from := a.Self().ID
		for _, text := range [][]byte{[]byte("short"), bytes.Repeat([]byte("long"), 1<<18)} {
			a.wait(10*time.Second, "the text is there", func() bool {
				if err := a.Send(b.Self().ID, text); err != nil { // a datagram may get lost
					t.Fatal(err)
				}
				mu.Lock()
				defer mu.Unlock()
				all := got["b"+from]
				return len(all) > 0 && bytes.Equal(all[len(all)-1], text)
			})
		}
		mu.Lock()
		defer mu.Unlock()
		if len(got) != 1 {
			t.Errorf("texts arrived at %d pairs, want one", len(got))
		}
		if a.Send("00000000000000000000000000000000", nil) == nil || a.Send(b.Self().ID, make([]byte, maxMessage+1)) == nil {
			t.Error("a text to nobody, or one that is too long, is sent")
		}
	})
}
