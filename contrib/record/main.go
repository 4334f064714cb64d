// Command record stands between Docker's engine and overlane, and writes what they say to each other: for bug reports, and for
// plugin/testdata. The daemon listens on a socket elsewhere meanwhile:
//
//	overlane daemon --plugin-socket /run/overlane/recorded/overlane.sock ...
//	record >engine.txt
//
// The record has the names, IDs and addresses of networks and containers in it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	from := flag.String("from", "/run/docker/plugins/overlane.sock", "the `socket` on which the engine is to find overlane")
	to := flag.String("to", "/run/overlane/recorded/overlane.sock", "the `socket` on which overlane listens: its --plugin-socket")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "record: argument %q: there are none but flags\n", flag.Arg(0))
		os.Exit(2)
	}
	if err := serve(ctx, os.Stdout, *from, *to); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, out io.Writer, from, to string) error {
	if _, err := os.Stat(to); err != nil {
		return fmt.Errorf("overlane does not listen there (-to): %w. Start it with --plugin-socket %s", err, to)
	}
	listener, err := net.Listen("unix", from)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s (-from) is there already: stop overlane, which takes it away, and start it with --plugin-socket %s; or remove it where nobody listens on it", from, to)
	}
	if err != nil {
		return err
	}
	server := http.Server{Handler: newRecorder(out, to), ReadHeaderTimeout: 10 * time.Second}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		<-ctx.Done()
		last, done := context.WithTimeout(context.Background(), time.Minute) // as long as an engine waits for an answer
		defer done()
		server.Shutdown(last)
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-finished
	return nil
}
