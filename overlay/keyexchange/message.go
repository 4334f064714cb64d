package keyexchange

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// ProtocolVersion is the first byte of every message: no other part of overlane's has it.
const ProtocolVersion = 0x61

// idSize is the length of a node's ID: 32 hexadecimal digits.
const idSize = 32

const publicSize = 32 // of X25519 (RFC 7748 section 6.1)

// messageSize is the length of every message.
const messageSize = 1 + idSize + 8 + 8 + 8 + publicSize + len(fingerprint{}) + 1

// Bits of a message's last byte.
const (
	flagCipher256 = 1 << iota
	flagKnown
	flagReply
	flagsAll = 1<<iota - 1
)

// number is that of a message among all of its sender: of the daemon's start, which grows, and of messages since. What comes with one that is
// not above those before was played back, or overtaken: the state in it is no longer the sender's.
type number struct{ start, sent uint64 }

func (n number) before(other number) bool {
	return n.start < other.start || n.start == other.start && n.sent < other.sent
}

// publicKey is one half of what two hosts derive keys from.
type publicKey struct {
	start, made uint64 // its generation: the start of its maker, and a number since
	key         [publicSize]byte
	size        int // bytes of a cipher's key that its maker wants at least: 16 or 32
}

func (k *publicKey) before(other *publicKey) bool {
	return number{k.start, k.made}.before(number{other.start, other.made})
}

// fingerprint names a public key.
type fingerprint [16]byte

func (k *publicKey) fingerprint() fingerprint {
	sum := sha256.Sum256(k.key[:])
	return fingerprint(sum[:len(fingerprint{})])
}

// message says all that its sender has to say to one other host.
type message struct {
	to     string // the receiver's ID: keys are of pairs, and nobody else is to take it
	number number
	key    publicKey   // the sender's newest; it takes what is sent with it
	heard  fingerprint // of the receiver's newest key that the sender has; zero: none
	known  bool        // the receiver has said that it has the key: the sender sends with no older one
	reply  bool        // a word back is wanted
}

func (m *message) encode() []byte {
	b := append(make([]byte, 0, messageSize), ProtocolVersion)
	b = append(b, m.to...)
	b = binary.BigEndian.AppendUint64(b, m.number.start)
	b = binary.BigEndian.AppendUint64(b, m.number.sent)
	b = binary.BigEndian.AppendUint64(b, m.key.made)
	b = append(b, m.key.key[:]...)
	b = append(b, m.heard[:]...)
	var flags byte
	if m.key.size == 32 {
		flags |= flagCipher256
	}
	if m.known {
		flags |= flagKnown
	}
	if m.reply {
		flags |= flagReply
	}
	return append(b, flags)
}

// IsFor says whether a message may be for a node: one for another is none's here.
func IsFor(id string, text []byte) bool {
	return len(text) < 1+idSize || string(text[1:1+idSize]) == id
}

func decode(b []byte) (*message, error) {
	switch {
	case len(b) == 0 || b[0] != ProtocolVersion:
		return nil, fmt.Errorf("the first byte is not %d, the protocol's version", ProtocolVersion)
	case len(b) != messageSize:
		return nil, fmt.Errorf("%d bytes: want %d", len(b), messageSize)
	}
	r := bytes.NewBuffer(b[1:])
	m := &message{to: string(r.Next(idSize))}
	next := func() uint64 { return binary.BigEndian.Uint64(r.Next(8)) }
	m.number = number{next(), next()}
	m.key = publicKey{start: m.number.start, made: next(), size: 16}
	copy(m.key.key[:], r.Next(publicSize))
	copy(m.heard[:], r.Next(len(m.heard)))
	flags := r.Next(1)[0]
	if flags&^flagsAll != 0 {
		return nil, fmt.Errorf("flags %#x: only %#x are known", flags, flagsAll)
	}
	if flags&flagCipher256 != 0 {
		m.key.size = 32
	}
	m.known, m.reply = flags&flagKnown != 0, flags&flagReply != 0
	if m.known && m.heard == (fingerprint{}) {
		return nil, errors.New("it knows what was heard of its key, and has heard nothing")
	}
	return m, nil
}
