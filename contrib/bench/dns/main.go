// Command dns measures how fast a container finds others by name: one on another host by overlane, and beside it one on its own host by
// Docker's server, on a bridge network of the same engine. It wants root and the lab's image.
//
// Some askers in the container's network namespace send a query each when the one before is answered. The two take turns, and each figure
// is the median of its rounds. The last line starts with RESULT.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netns"

	"github.com/overlane/overlane/internal/lab"
)

const (
	labName = "bench-dns"
	askers  = 8
	rounds  = 5
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	length := flag.Duration("length", 3*time.Second, "how long a measurement `takes`")
	flag.Parse()
	if err := measure(ctx, *length); err != nil {
		fmt.Fprintln(os.Stderr, "dns:", err)
		os.Exit(1)
	}
}

// figures are those of one round.
type figures struct{ qps, p99 float64 }

func measure(ctx context.Context, length time.Duration) (err error) {
	defer func() { err = errors.Join(err, lab.Down(context.WithoutCancel(ctx), labName)) }()
	c, err := lab.Up(ctx, lab.Options{Name: labName, Hosts: 2})
	if err != nil {
		return err
	}
	for _, h := range c.Hosts {
		if _, err := h.Docker(ctx, "network", "create", "-d", "overlane", "--ipam-driver", "overlane", "--subnet", "10.20.0.0/24", "app"); err != nil {
			return err
		}
	}
	if _, err := c.Hosts[0].Docker(ctx, "network", "create", "-d", "bridge", "plain"); err != nil {
		return err
	}
	ours, err := newAsker(ctx, c.Hosts[0], c.Hosts[1], "app")
	if err != nil {
		return err
	}
	docker, err := newAsker(ctx, c.Hosts[0], c.Hosts[0], "plain")
	if err != nil {
		return err
	}
	var our, their []figures
	for range rounds {
		for _, turn := range []struct {
			asker *asker
			into  *[]figures
		}{{ours, &our}, {docker, &their}} {
			f, err := turn.asker.measure(ctx, length)
			if err != nil {
				return err
			}
			*turn.into = append(*turn.into, f)
		}
	}
	qps := func(f figures) float64 { return f.qps }
	p99 := func(f figures) float64 { return f.p99 }
	fmt.Printf("overlane: %.0f queries/s, p99 %.0f µs; Docker's server: %.0f queries/s, p99 %.0f µs\n", median(our, qps), median(our, p99), median(their, qps), median(their, p99))
	fmt.Printf("RESULT bench=dns ours_qps=%.0f docker_qps=%.0f ratio=%.2f ours_p99_us=%.0f docker_p99_us=%.0f\n",
		median(our, qps), median(their, qps), median(our, qps)/median(their, qps), median(our, p99), median(their, p99))
	return nil
}

func median(all []figures, of func(figures) float64) float64 {
	var values []float64
	for _, f := range all {
		values = append(values, of(f))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// asker is a container that asks for another one.
type asker struct {
	name      string
	namespace string
}

func newAsker(ctx context.Context, from, to *lab.Host, network string) (*asker, error) {
	name := network + "-target"
	if _, err := to.Run(ctx, name, "--network", network); err != nil {
		return nil, err
	}
	c, err := from.Run(ctx, network+"-asker", "--network", network)
	if err != nil {
		return nil, err
	}
	a := &asker{name: name + "."}
	if a.namespace, err = c.Namespace(ctx); err != nil {
		return nil, err
	}
	return a, lab.Wait(ctx, 30*time.Second, func(ctx context.Context) error {
		_, err := a.measure(ctx, 10*time.Millisecond)
		return err
	})
}

func (a *asker) measure(ctx context.Context, length time.Duration) (figures, error) {
	conns, err := a.dial(ctx)
	if err != nil {
		return figures{}, err
	}
	took := make([][]time.Duration, len(conns))
	errs := make([]error, len(conns))
	var asking sync.WaitGroup
	began := time.Now()
	for i, conn := range conns {
		asking.Go(func() {
			defer conn.Close()
			took[i], errs[i] = a.ask(conn, began.Add(length))
		})
	}
	asking.Wait()
	all := slices.Concat(took...)
	if err := errors.Join(errs...); err != nil || len(all) == 0 {
		return figures{}, fmt.Errorf("%s: %d answers: %w", a.name, len(all), err)
	}
	slices.Sort(all)
	p99 := all[len(all)*99/100]
	return figures{float64(len(all)) / time.Since(began).Seconds(), float64(p99.Nanoseconds()) / 1e3}, nil
}

// dial opens the askers' sockets in the container's namespace.
func (a *asker) dial(ctx context.Context) (conns []net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		namespace, e := netns.GetFromPath(a.namespace)
		if e == nil {
			e = netns.Set(namespace)
			namespace.Close()
		}
		for err = e; err == nil && len(conns) < askers; {
			var conn net.Conn
			if conn, err = new(net.Dialer).DialContext(ctx, "udp4", "127.0.0.11:53"); err == nil {
				conns = append(conns, conn)
			}
		}
	}()
	<-done
	return conns, err
}

// ask asks until an end, and gives how long each answer took.
func (a *asker) ask(conn net.Conn, end time.Time) (took []time.Duration, err error) {
	query := new(dns.Msg).SetQuestion(a.name, dns.TypeA)
	packed, err := query.Pack()
	if err != nil {
		return nil, err
	}
	buffer := make([]byte, dns.MinMsgSize)
	conn.SetDeadline(end.Add(5 * time.Second))
	for now := time.Now(); now.Before(end); {
		if _, err := conn.Write(packed); err != nil {
			return nil, err
		}
		n, err := conn.Read(buffer)
		if err != nil {
			return nil, err
		}
		const atAnswers = 7 // the lower byte of their number (RFC 1035 section 4.1.1)
		if n <= atAnswers || buffer[atAnswers] != 1 {
			return nil, fmt.Errorf("%s has no address", a.name)
		}
		after := time.Now()
		took, now = append(took, after.Sub(now)), after
	}
	return took, nil
}
