package discovery

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

// Token lets a node into a cluster: the key that all gossip of its members is encrypted and authenticated with (AES-GCM of 128, 192 or 256
// bits, by memberlist), and when it was made. The zero value is none.
type Token struct {
	key  []byte // 16, 24 or 32 bytes
	made uint64 // milliseconds since 1970, of 48 bits: of two keys the later one is the one to use
}

// The text of a token is this, and in base64 (RFC 4648 section 5, without padding) when it was made, the key, and the beginning of their
// SHA-256, which tells a part of a token from a whole one.
const (
	tokenPrefix = "overlane1-"
	madeSize    = 6
	tokenCheck  = 4
)

var tokenEncoding = base64.RawURLEncoding.Strict()

// NewToken makes one that nobody has.
func NewToken() Token {
	t := Token{make([]byte, 32), uint64(time.Now().UnixMilli())}
	rand.Read(t.key) // never fails (crypto/rand)
	return t
}

// IsZero says that there is none.
func (t Token) IsZero() bool { return len(t.key) == 0 }

func (t Token) same(other Token) bool { return bytes.Equal(t.key, other.key) }

func (t Token) fingerprint() Fingerprint { return fingerprintOf(t.key) }

// after says that t is to be used in place of another one.
func (t Token) after(other Token) bool {
	return t.made > other.made || t.made == other.made && bytes.Compare(t.key, other.key) > 0
}

func (t Token) encode() []byte {
	return append(binary.BigEndian.AppendUint64(nil, t.made)[8-madeSize:], t.key...)
}

func decodeToken(b []byte) (Token, error) {
	if len(b) < madeSize || memberlist.ValidateKey(b[madeSize:]) != nil {
		return Token{}, errors.New("it holds no key")
	}
	return Token{bytes.Clone(b[madeSize:]), binary.BigEndian.Uint64(append(make([]byte, 8-madeSize), b[:madeSize]...))}, nil
}

// Text is the token itself, a secret.
func (t Token) Text() string {
	b := t.encode()
	sum := sha256.Sum256(b)
	return tokenPrefix + tokenEncoding.EncodeToString(append(b, sum[:tokenCheck]...))
}

// String does not give the token away.
func (t Token) String() string { return fmt.Sprintf("token %s", t.fingerprint()) }

// IsToken says whether a text is to be a token, and no path of a file.
func IsToken(text string) bool { return strings.HasPrefix(text, tokenPrefix) }

// ParseToken reads what Text gives. Its errors do not show what may be a token.
func ParseToken(text string) (Token, error) {
	encoded, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok {
		return Token{}, fmt.Errorf("what was given is no token: that begins with %s, as `overlane token` prints it", tokenPrefix)
	}
	b, err := tokenEncoding.DecodeString(encoded)
	if err != nil || len(b) < tokenCheck {
		return Token{}, errors.New("what was given is not the whole token, or has something else in it")
	}
	b, check := b[:len(b)-tokenCheck], b[len(b)-tokenCheck:]
	if sum := sha256.Sum256(b); !bytes.Equal(sum[:tokenCheck], check) {
		return Token{}, errors.New("what was given is not the whole token, or has something else in it")
	}
	return decodeToken(b)
}
