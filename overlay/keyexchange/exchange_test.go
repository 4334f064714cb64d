package keyexchange

import (
	"testing"
	"time"
)

// two are two hosts that have agreed.
func two(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, 1, 2, time.Hour)
	w.run(5 * time.Second)
	w.agree(w.now)
	return w
}

// A host that begins anew is answered at once, and sends and receives after a round trip.
func TestRestartTakesARoundTrip(t *testing.T) {
	w := two(t)
	now := w.now
	anew := New(Config{Self: id(1), Start: uint64(now.UnixMilli()), KeySize: 16, RekeyAfter: time.Hour})
	there, err := w.hosts[0].Receive(now, id(1), anew.SetPeers(now, []string{id(0)}).Messages[0].Text)
	if err != nil || len(there.Messages) != 1 || len(there.SAs) != 1 {
		t.Fatalf("the answer is %+v, %v", there, err)
	}
	here, err := anew.Receive(now, id(0), there.Messages[0].Text)
	if err != nil || len(here.SAs) != 1 {
		t.Fatalf("%+v, %v", here, err)
	}
	if !opens(here.SAs[0], there.SAs[0].Out) || !opens(there.SAs[0], here.SAs[0].Out) {
		t.Errorf("what one sends the other can't open: %+v and %+v", here.SAs, there.SAs)
	}
}

// A host that goes on from an older state than the others have heard of is passed over until it begins again.
func TestHostThatWentBackBeginsAgain(t *testing.T) {
	w := two(t)
	now, start := w.now, uint64(w.now.UnixMilli())
	back, later := w.hosts[1], New(Config{Self: id(1), Start: start, KeySize: 16, RekeyAfter: time.Hour})
	if _, err := w.hosts[0].Receive(now, id(1), later.SetPeers(now, []string{id(0)}).Messages[0].Text); err != nil {
		t.Fatal(err)
	}
	if out, err := w.hosts[0].Receive(now, id(1), back.Renounce(now).Messages[0].Text); err != nil || len(out.Messages)+len(out.SAs) > 0 {
		t.Fatalf("an overtaken message has led to %+v, %v", out, err)
	}
	if out := back.Begin(now, back.start); len(out.Messages)+len(out.SAs) > 0 {
		t.Errorf("no later start has led to %+v", out)
	}
	now = now.Add(time.Second)
	there, err := w.hosts[0].Receive(now, id(1), back.Begin(now, start+1).Messages[0].Text)
	if err != nil || len(there.Messages) != 1 || len(there.SAs) != 1 {
		t.Fatalf("the answer is %+v, %v", there, err)
	}
	here, err := back.Receive(now, id(0), there.Messages[0].Text)
	if err != nil || len(here.SAs) != 1 {
		t.Fatalf("%+v, %v", here, err)
	}
	if !opens(here.SAs[0], there.SAs[0].Out) || !opens(there.SAs[0], here.SAs[0].Out) {
		t.Errorf("what one sends the other can't open: %+v and %+v", here.SAs, there.SAs)
	}
}

func opens(s PeerSAs, out *SA) bool {
	for _, in := range s.In {
		if in.SPI == out.SPI && string(in.Key) == string(out.Key) && in.Salt == out.Salt {
			return true
		}
	}
	return false
}

// A host that may have a copy does not send with its old keys, not even until the others have heard of the new ones; it receives with them.
func TestRenounceEndsSendingAtOnce(t *testing.T) {
	w := two(t)
	before := w.hosts[0].out[1]
	received := len(w.hosts[0].in[1])
	w.cut[both(0, 1)] = true
	w.restarts[both(0, 1)]++ // what it sends gets lost until the other hears of the new key
	w.do(0, w.hosts[0].Renounce(w.now))
	if after := w.hosts[0].out[1]; after == before || after.key == "" {
		t.Errorf("it sends with %+v after %+v", after, before)
	}
	if len(w.hosts[0].in[1]) != received+1 {
		t.Errorf("%d SAs to receive, before %d", len(w.hosts[0].in[1]), received)
	}
	w.run(keep)
	clear(w.cut)
	w.run(healing)
	w.agree(w.now)
}

// Who has agreed is silent until the next key is due.
func TestAgreedHostsAreSilent(t *testing.T) {
	w := two(t)
	said := len(w.old)
	w.run(20 * time.Minute)
	if len(w.old) > said {
		t.Errorf("%d messages", len(w.old)-said)
	}
	out := w.hosts[0].out[1]
	w.run(45 * time.Minute)
	if w.hosts[0].out[1] == out || len(w.hosts[0].in[1]) != 1 {
		t.Errorf("after an hour it sends with the same, and receives with %d", len(w.hosts[0].in[1]))
	}
}

// A host that does not answer is asked less and less often, and hears no more than that.
func TestSilenceIsAskedSeldom(t *testing.T) {
	w := newWorld(t, 1, 2, time.Hour)
	w.cut[both(0, 1)] = true
	w.run(time.Minute)
	if n := len(w.old); n < 2*6 || n > 2*10 {
		t.Errorf("%d messages of two hosts in a minute", n)
	}
}
