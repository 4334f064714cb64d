package capture

import (
	"testing"
	"time"

	"github.com/overlane/overlane/datapath"
)

// reply of a host whose clock is ahead by skew, with packets that were captured a millisecond before it left.
func replyAt(at time.Time, skew time.Duration, run, number, captured uint64, packets int) arrived {
	r := &reply{run: run, number: number, captured: captured, now: at.Add(skew)}
	for range packets {
		r.packets = append(r.packets, Packet{Captured: datapath.Captured{Time: at.Add(skew - time.Millisecond)}})
	}
	return arrived{"b", at, r}
}

// Times of a host whose clock is wrong are put right; those of hosts that keep time are left as they are.
func TestSkew(t *testing.T) {
	at := time.Now()
	for _, skew := range []time.Duration{0, 20 * time.Millisecond, 3 * time.Second, -3 * time.Hour} {
		s := newSession(new(Manager), Query{}, []string{"b"})
		s.add(replyAt(at, skew, 1, 1, 2, 2))
		want := at.Add(-time.Millisecond)
		if skew == 20*time.Millisecond {
			want = at // later than it came it can't have been captured
		}
		if got := s.waiting[0].Time; got.Sub(want).Abs() > time.Microsecond {
			t.Errorf("skew %v: off by %v", skew, got.Sub(want))
		}
		if got := s.hosts["b"].Skew; (got != 0) != (skew.Abs() > skewTolerated) {
			t.Errorf("skew %v: taken for %v", skew, got)
		}
	}
	// One reply that was under way for long tells nothing of the clock, once another was not.
	s := newSession(new(Manager), Query{}, []string{"b"})
	s.add(replyAt(at, 0, 1, 1, 0, 0))
	late := replyAt(at, 0, 1, 2, 1, 1)
	late.at = at.Add(time.Second)
	if s.add(late); s.hosts["b"].Skew != 0 || s.waiting[0].Time.After(at) {
		t.Errorf("%+v", s.hosts["b"])
	}
}

// A host whose daemon starts anew counts from its beginning; what it captured before is not forgotten.
func TestCaptureBeginsAnew(t *testing.T) {
	s := newSession(new(Manager), Query{}, []string{"b"})
	at := time.Now()
	s.add(replyAt(at, 0, 1, 5000, 3, 2)) // one got lost
	s.add(replyAt(at, 0, 2, 1, 2, 2))
	s.add(replyAt(at, 0, 2, 1, 2, 2)) // twice
	if r := s.hosts["b"].Report; r.Captured != 4 || r.Lost != 1 || len(s.waiting) != 4 {
		t.Errorf("%+v", r)
	}
}

// A host that has answered may fall silent.
func TestSilent(t *testing.T) {
	s := newSession(new(Manager), Query{}, []string{"b"})
	s.add(replyAt(time.Now(), 0, 1, 1, 0, 0))
	if s.reports()[0].Silent {
		t.Error("silent at once")
	}
	s.hosts["b"].heard = time.Now().Add(-silentTime - time.Second)
	if !s.reports()[0].Silent {
		t.Error("not silent")
	}
}

// Within the window, a packet of a host that is heard late comes before younger ones.
func TestWindow(t *testing.T) {
	s := newSession(new(Manager), Query{}, []string{"b"})
	at := time.Now()
	s.wait(Packet{Captured: datapath.Captured{Time: at}})
	if got := s.inOrder(); len(got) > 0 {
		t.Errorf("%+v is given before others may have come", got)
	}
	s.add(replyAt(at, 0, 1, 1, 1, 1))
	var all []Packet
	for len(all) < 2 {
		all = append(all, s.inOrder()...)
		time.Sleep(time.Millisecond)
	}
	if all[0].Host != "b" || time.Since(at) < window {
		t.Errorf("%+v", all)
	}
}

// endless has always more.
type endless struct{}

func (endless) Take() ([]datapath.Captured, uint64, error) {
	return make([]datapath.Captured, 1000), 0, nil
}
func (endless) Close() {}

// However much comes, a turn ends, and no more waits than there is room for.
func TestRoom(t *testing.T) {
	s := newSession(new(Manager), Query{}, nil)
	s.local = endless{}
	for range 100 {
		if err := s.takeLocal(); err != nil {
			t.Fatal(err)
		}
	}
	if s.bytes > mostWaiting || len(s.waiting) == 0 {
		t.Errorf("%d bytes of %d packets wait", s.bytes, len(s.waiting))
	}
	if s.inOrder(); s.bytes != 0 {
		t.Errorf("%d bytes wait, but no packet", s.bytes)
	}
	m := NewManager(Config{Send: func(string, []byte) error { return nil }})
	v := &served{manager: m}
	for range 10 {
		v.takeAndSend(endless{})
	}
	if v.reply.refused == 0 || v.reply.captured*packetOverhead > bytesPerSecond {
		t.Errorf("%+v", v.reply)
	}
}
