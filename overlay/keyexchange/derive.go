package keyexchange

import (
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/overlane/overlane/datapath"
)

// SA is a security association (RFC 4301 section 4.1) for ESP with AES-GCM (RFC 4106): packets of one direction between two hosts. Each is made
// once, and with it its key: who puts it to use gives it no second counter, and no other object its key.
type SA struct {
	SPI  uint32
	Key  []byte // 16 or 32 bytes; zero after Wipe
	Salt [4]byte
	Made time.Time
}

// Wipe clears the key, once what encrypts has it or the SA is out of use. Go's collector may have left copies of it on the way, in HMAC's state and on
// stacks, and crypto/ecdh keeps private keys where nobody can clear them: those go when their memory is used anew. So this shortens how long
// secrets lie in memory, and promises nothing; nothing of it is ever on disk, unless the host swaps.
func (sa *SA) Wipe() { clear(sa.Key); clear(sa.Salt[:]) }

const derivation = "overlane esp v1"

// party is one end of an SA, with its key.
type party struct {
	id  string
	key *publicKey
}

func (p party) append(info []byte) []byte {
	info = append(info, p.id...)
	info = binary.BigEndian.AppendUint64(info, p.key.start)
	info = binary.BigEndian.AppendUint64(info, p.key.made)
	return append(info, p.key.key[:]...)
}

// derive makes the SA from one party to the other, of which the private key is one's. The generations go into it, so that a public key that is said
// anew, as a newer one, does not give the same SA again.
func derive(private *ecdh.PrivateKey, other *publicKey, from, to party, now time.Time) (*SA, error) {
	public, err := ecdh.X25519().NewPublicKey(other.key[:])
	if err != nil {
		return nil, err
	}
	secret, err := private.ECDH(public) // refuses public keys that give a secret which everybody knows
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	defer clear(secret)
	size := max(from.key.size, to.key.size)
	info := append(to.append(from.append([]byte(derivation))), byte(size))
	material, err := hkdf.Key(sha256.New, secret, nil, string(info), size+8)
	if err != nil {
		return nil, err
	}
	sa := &SA{Key: material[:size:size], Salt: [4]byte(material[size:]), Made: now}
	sa.SPI = datapath.SPI(binary.BigEndian.Uint32(material[size+4:]))
	clear(material[size:])
	return sa, nil
}
