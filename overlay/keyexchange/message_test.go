package keyexchange

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

var (
	idA = strings.Repeat("a", idSize)
	idB = strings.Repeat("b", idSize)
)

func sample() *message {
	return &message{to: idB, number: number{1, 3}, key: publicKey{start: 1, made: 2, key: [publicSize]byte{9}, size: 32}, heard: fingerprint{7}, known: true, reply: true}
}

func TestMessageIsReadAsItWasWritten(t *testing.T) {
	for _, change := range []func(*message){
		func(*message) {},
		func(m *message) { m.known, m.heard = false, fingerprint{} },
		func(m *message) { m.reply = false },
		func(m *message) { m.key.size = 16 },
	} {
		m := sample()
		change(m)
		if got, err := decode(m.encode()); err != nil || *got != *m {
			t.Errorf("%+v was read as %+v, %v", m, got, err)
		}
	}
}

// What another host says is taken whole or not at all.
func TestDecodeRefuses(t *testing.T) {
	good := sample().encode()
	for what, b := range map[string][]byte{
		"nothing":         nil,
		"another version": append([]byte{ProtocolVersion + 1}, good[1:]...),
		"a part":          good[:len(good)-1],
		"more":            append(bytes.Clone(good), 0),
		"unknown flags":   append(bytes.Clone(good[:len(good)-1]), 0x80),
		"an answer to nothing": func() []byte {
			m := sample()
			m.heard = fingerprint{}
			return m.encode()
		}(),
	} {
		if m, err := decode(b); err == nil {
			t.Errorf("%s was taken: %+v", what, m)
		}
	}
}

// What a host says can be false, and is refused without a trace.
func TestReceiveRefuses(t *testing.T) {
	now := time.UnixMilli(1e12)
	for what, change := range map[string]func(*message){
		"one for another host":           func(m *message) { m.to = strings.Repeat("c", idSize) },
		"a key that gives no secret":     func(m *message) { m.key.key, m.key.made = [publicSize]byte{}, 1<<62 },
		"another key of this generation": func(m *message) { m.key.key[0] ^= 1 },
		"another cipher for the key":     func(m *message) { m.key.size = 32 },
		"a key of an older generation":   func(m *message) { m.key.made-- },
		"an old key as a new one":        func(m *message) { m.key.made++ },
	} {
		a, b := New(Config{Self: idA, Start: 1, KeySize: 16, RekeyAfter: time.Hour}), New(Config{Self: idB, Start: 1, KeySize: 16, RekeyAfter: time.Hour})
		first := a.SetPeers(now, []string{idB}).Messages[0].Text
		b.SetPeers(now, []string{idA})
		if _, err := b.Receive(now, idA, first); err != nil {
			t.Fatal(err)
		}
		before := b.Status()[idA]
		m, err := decode(first)
		if err != nil {
			t.Fatal(err)
		}
		m.number.sent++
		change(m)
		out, err := b.Receive(now.Add(time.Second), idA, m.encode())
		if err == nil || len(out.SAs)+len(out.Messages) > 0 || b.Status()[idA] != before {
			t.Errorf("%s: %v, %+v", what, err, out)
		}
	}
}

// No message is a host's undoing, and each gets an answer that can be read.
func FuzzReceive(f *testing.F) {
	now := time.UnixMilli(1e12)
	a := New(Config{Self: idA, Start: 1, KeySize: 32, RekeyAfter: time.Hour})
	first := a.SetPeers(now, []string{idB}).Messages[0].Text
	f.Add(first)
	f.Add(sample().encode())
	f.Add([]byte{ProtocolVersion})
	low := sample()
	low.key.key = [publicSize]byte{1}
	f.Add(low.encode())
	f.Fuzz(func(t *testing.T, text []byte) {
		b := New(Config{Self: idB, Start: 1, KeySize: 16, RekeyAfter: time.Hour})
		b.SetPeers(now, []string{idA})
		for i, text := range [][]byte{first, text, text} {
			out, err := b.Receive(now.Add(time.Duration(i)*time.Second), idA, text)
			if err != nil && len(out.SAs)+len(out.Messages) > 0 {
				t.Errorf("refused, and answered: %+v", out)
			}
			for _, m := range out.Messages {
				if got, err := decode(m.Text); err != nil || got.to != idA {
					t.Errorf("the answer %x: %v", m.Text, err)
				}
			}
			for _, p := range out.SAs {
				if len(p.In) > maxKeys*maxKeys || len(p.In) > 0 && p.Out == nil {
					t.Errorf("%d SAs to receive, to send %v", len(p.In), p.Out)
				}
			}
		}
	})
}
