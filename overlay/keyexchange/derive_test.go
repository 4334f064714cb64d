package keyexchange

import (
	"bytes"
	"crypto/ecdh"
	"encoding/hex"
	"testing"
	"time"

	"github.com/overlane/overlane/datapath"
)

// ends are two keys that are the same each time.
func ends(t *testing.T, sizeA, sizeB int) (a, b *ecdh.PrivateKey, ofA, ofB party) {
	t.Helper()
	key := func(fill byte, start uint64, size int) (*ecdh.PrivateKey, *publicKey) {
		private, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{fill}, 32))
		if err != nil {
			t.Fatal(err)
		}
		return private, &publicKey{start: start, made: start + 1, key: [publicSize]byte(private.PublicKey().Bytes()), size: size}
	}
	a, keyA := key(0x11, 100, sizeA)
	b, keyB := key(0x22, 200, sizeB)
	return a, b, party{idA, keyA}, party{idB, keyB}
}

// Hosts of different versions derive the same: these values never change, nor does the text that they come from.
func TestDerivationIsTheSameForEver(t *testing.T) {
	for _, c := range []struct {
		sizeA, sizeB   int
		spi            uint32
		key, salt, was string
	}{
		{16, 16, 0x865a0d1a, "96775528d7da87e9244b9ca11a590ff8", "ed15beb1", "from a to b"},
		{16, 32, 0x51d82694, "477b1db6ba73edee42283350b0cf84ec04124f957b328d238dd869c69797aef5", "a3cf98b0", "256 bits as b wants it"},
	} {
		a, b, ofA, ofB := ends(t, c.sizeA, c.sizeB)
		here, err := derive(a, ofB.key, ofA, ofB, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		there, err := derive(b, ofA.key, ofA, ofB, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if here.SPI != there.SPI || !bytes.Equal(here.Key, there.Key) || here.Salt != there.Salt {
			t.Errorf("%s: %+v at one end, %+v at the other", c.was, here, there)
		}
		if here.SPI != c.spi || hex.EncodeToString(here.Key) != c.key || hex.EncodeToString(here.Salt[:]) != c.salt {
			t.Errorf("%s: SPI %#x, key %x, salt %x", c.was, here.SPI, here.Key, here.Salt)
		}
		back, err := derive(a, ofB.key, ofB, ofA, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(back.Key, here.Key) {
			t.Errorf("%s: both directions have one key", c.was)
		}
	}
}

// An SPI is none that VXLAN's flags could be taken for, and none that is reserved.
func TestSPIsAreNoVXLAN(t *testing.T) {
	a, _, ofA, ofB := ends(t, 16, 16)
	for range 2000 {
		ofB.key.made++
		sa, err := derive(a, ofB.key, ofA, ofB, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if sa.SPI != datapath.SPI(sa.SPI) {
			t.Fatalf("SPI %#x", sa.SPI)
		}
	}
}
