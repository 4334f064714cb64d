package overlay

import (
	"encoding/json"
	"reflect"
	"testing"
)

// A version that knows no encryption finds no VNI in an encrypted network, and so no network.
func TestEncryptedNetworkIsNotReadAsPlain(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		n := Network{ID: "abc", Key: "vni=5000", VNI: 5000, MTU: 1408, Options: map[string]string{}, Encrypted: encrypted}
		text, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		var before struct{ VNI uint32 }
		if err := json.Unmarshal(text, &before); err != nil || (before.VNI == 0) != encrypted {
			t.Errorf("encrypted %v: %v, VNI %d in %s", encrypted, err, before.VNI, text)
		}
		var again Network
		if err := json.Unmarshal(text, &again); err != nil || !reflect.DeepEqual(again, n) {
			t.Errorf("%v: %+v became %+v", err, n, again)
		}
	}
}
