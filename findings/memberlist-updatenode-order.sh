#!/usr/bin/env bash
# hashicorp/memberlist v0.7.0: of two calls of UpdateNode that overlap, the one that read the older metadata can have the last
# word. UpdateNode asks the delegate for the metadata first and takes the incarnation after that, so the call that began first
# and was held up in between announces what it read then under the higher incarnation, and every member goes back to it. The
# delegate has the newer metadata, both calls returned nil, and nothing announces it again until the next call.
# Seen: "both calls returned nil; the delegate says new, the node announces old".
# Way out: one call at a time.
set -euo pipefail
work=$(mktemp -d)
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT
cd "$work"
cat >go.mod <<'MOD'
module finding

go 1.24

require github.com/hashicorp/memberlist v0.7.0
MOD
cat >main.go <<'GO'
package main

import (
	"fmt"
	"io"
	"log"
	"sync/atomic"

	"github.com/hashicorp/memberlist"
)

// delegate has metadata, and holds up whoever has read them while it is told to.
type delegate struct {
	meta    atomic.Value
	holding atomic.Bool
	read    chan struct{}
	resume  chan struct{}
}

func (d *delegate) NodeMeta(int) []byte {
	meta := d.meta.Load().(string)
	if d.holding.CompareAndSwap(true, false) {
		d.read <- struct{}{}
		<-d.resume
	}
	return []byte(meta)
}
func (*delegate) NotifyMsg([]byte)                {}
func (*delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (*delegate) LocalState(bool) []byte          { return nil }
func (*delegate) MergeRemoteState([]byte, bool)   {}

func main() {
	d := &delegate{read: make(chan struct{}), resume: make(chan struct{})}
	d.meta.Store("first")
	conf := memberlist.DefaultLocalConfig()
	conf.Name, conf.BindAddr, conf.BindPort, conf.Delegate = "a", "127.0.0.1", 0, d
	conf.Logger = log.New(io.Discard, "", 0)
	list, err := memberlist.Create(conf)
	if err != nil {
		log.Fatal(err)
	}
	defer list.Shutdown()

	d.meta.Store("old")
	d.holding.Store(true)
	slow := make(chan error)
	go func() { slow <- list.UpdateNode(0) }()
	<-d.read
	d.meta.Store("new")
	quickErr := list.UpdateNode(0)
	d.resume <- struct{}{}
	if slowErr := <-slow; slowErr != nil || quickErr != nil {
		log.Fatalf("UpdateNode: %v, %v", slowErr, quickErr)
	}
	fmt.Printf("both calls returned nil; the delegate says %s, the node announces %s\n", d.meta.Load(), list.LocalNode().Meta)
}
GO
GOFLAGS=-mod=mod go mod tidy >/dev/null 2>&1
seen=$(go run .)
echo "$seen"
[ "$seen" = "both calls returned nil; the delegate says new, the node announces old" ]
