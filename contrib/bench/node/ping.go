package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/overlane/overlane/contrib/bench/testbed"
)

const (
	pingInterval = "0.005" // s
	goneOn       = 50      // replies by which traffic goes on
)

// ping is a stream of echo requests.
type ping struct {
	mu            sync.Mutex
	replies       int
	last, longest float64 // when the last reply came, in seconds, and the longest time between two
}

// startPing lasts until the context's end.
func startPing(ctx context.Context, ns, to string) (*ping, error) {
	command := testbed.Command(ctx, ns, "ping", "-n", "-D", "-i", pingInterval, to)
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	p := &ping{}
	go func() {
		p.read(out)
		command.Wait()
	}()
	return p, nil
}

// read takes lines such as "[1764361234.567890] 64 bytes from 10.64.0.1: icmp_seq=1 ttl=64 time=0.051 ms".
func (p *ping) read(out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		stamp, rest, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "["), "] ")
		at, err := strconv.ParseFloat(stamp, 64)
		if err != nil || !strings.Contains(rest, "bytes from") {
			continue
		}
		p.mu.Lock()
		if p.replies > 0 {
			p.longest = max(p.longest, at-p.last)
		}
		p.replies, p.last = p.replies+1, at
		p.mu.Unlock()
	}
}

// gap waits until traffic goes on, and gives the longest time without a reply since it was asked last, in milliseconds.
func (p *ping) gap(ctx context.Context) (float64, error) {
	before := p.count()
	err := testbed.Eventually(ctx, func() error {
		if n := p.count() - before; n < goneOn {
			return fmt.Errorf("%d replies: %w", n, errors.New("the traffic does not go on"))
		}
		return nil
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	longest := p.longest
	p.longest = 0
	return 1000 * longest, err
}

func (p *ping) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.replies
}
