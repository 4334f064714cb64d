#!/usr/bin/env bash
# gopacket/gopacket v1.7.7: a program that imports the package layers, and calls nothing of it, takes some 14 MB more once it has collected
# garbage. The package's tables by Ethernet type and by PPP type are two arrays of 65536 entries with pointers, 2.6 MB each: every cycle of
# the collector reads them, so that they become resident, and since Go 1.18 it adds them to the heap that it lets grow.
# Seen: 21.0 against 6.5 MB resident after a gigabyte of garbage; "globals to scan: over 5 MB; over 10 MB more resident: true true", with
# Go 1.26 on amd64.
# Way out: a daemon that only makes a few frames does without.
set -euo pipefail
work=$(mktemp -d)
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT
cd "$work"
cat >go.mod <<'MOD'
module finding

go 1.24

require github.com/gopacket/gopacket v1.7.7
MOD
mkdir with without
for kind in with without; do
	import=
	[ "$kind" = without ] || import='_ "github.com/gopacket/gopacket/layers"'
	cat >$kind/main.go <<GO
package main

import (
	"fmt"
	"os"
	"runtime/metrics"
	"strings"
	$import
)

var garbage []byte

func main() {
	for range 16384 {
		garbage = make([]byte, 1<<16)
	}
	globals := []metrics.Sample{{Name: "/gc/scan/globals:bytes"}}
	metrics.Read(globals)
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmRSS:") {
			fmt.Println(globals[0].Value.Uint64()/1024, strings.Fields(line)[1])
		}
	}
}
GO
done
GOFLAGS=-mod=mod go mod tidy >/dev/null 2>&1
go build -o bin/ ./with ./without
read -r globals with < <(bin/with)
read -r _ without < <(bin/without)
echo "$with against $without KB resident, $globals KB of globals to scan"
seen="globals to scan: over 5 MB; over 10 MB more resident: $([ "$globals" -gt 5120 ] && echo true) $([ $((with - without)) -gt 10240 ] && echo true)"
echo "$seen"
[ "$seen" = "globals to scan: over 5 MB; over 10 MB more resident: true true" ]
