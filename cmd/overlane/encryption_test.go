package main

import (
	"bytes"
	"net/netip"
	"regexp"
	"testing"

	"github.com/overlane/overlane/overlay"
)

func TestEncryptionTable(t *testing.T) {
	var out bytes.Buffer
	vtep := netip.MustParseAddrPort("192.0.2.2:4789")
	s := overlay.Status{Encryption: []overlay.EncryptionStatus{
		{Host: "host2", VTEP: vtep, Cipher: "aes-128-gcm", KeyAge: 61, Packets: 7},
		{Host: "host3", VTEP: vtep, Health: overlay.Health{Reason: "no key yet", Advice: "see the log"}},
	}}
	if err := writeTables(&out, s); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`ENCRYPTED TO +VTEP +CIPHER +KEY'S AGE +PACKETS +BECAUSE +NEXT STEP`,
		`host2 +192\.0\.2\.2:4789 +aes-128-gcm +1m1s +7 +- +-`,
		`host3 +192\.0\.2\.2:4789 +- +- +0 +no key yet +see the log`,
	} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(out.String()) {
			t.Errorf("no line matches %s:\n%s", line, out.String())
		}
	}
}
