package main

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/overlane/overlane/capture"
	"github.com/overlane/overlane/overlay"
)

// captured is what the daemon sends a command that captures: a gob each, one after the other. Events are those of the packets, in the same order.
type captured struct {
	Packets []capture.Packet
	Events  []capture.Event
	Reports map[string]capture.Report // by host
}

// reportInterval is between two that have no packets.
const reportInterval = time.Second

// capture sends packets until the command ends its request's body or goes, or the daemon ends.
func (c *control) capture(w http.ResponseWriter, r *http.Request) {
	o := c.ready(w)
	if o == nil {
		return
	}
	body := http.MaxBytesReader(w, r.Body, maxArgument)
	var request overlay.CaptureRequest
	if err := json.NewDecoder(body).Decode(&request); err != nil {
		http.Error(w, fmt.Sprintf("what is to be captured: %s", err), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(c.streams, cancel)()
	answer := http.NewResponseController(w)
	if err := answer.EnableFullDuplex(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	go func() {
		defer cancel()
		io.Copy(io.Discard, body)
	}()
	encoder := gob.NewEncoder(w)
	var said time.Time
	err := o.Capture(ctx, request, func(packets []capture.Packet, events []capture.Event, reports map[string]capture.Report) error {
		if len(packets) == 0 && time.Since(said) < reportInterval {
			return nil
		}
		said = time.Now()
		if err := encoder.Encode(captured{packets, events, reports}); err != nil {
			return err
		}
		return answer.Flush()
	})
	if err != nil && said.IsZero() {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

// lastWords is how long a daemon may take to send what it has captured until the end.
const lastWords = 2 * time.Second

// captureFrom gives what a daemon captures until ctx ends to take, or until take returns an error: that is returned.
func captureFrom(ctx context.Context, socket string, request overlay.CaptureRequest, take func(captured) error) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	open, finish := io.Pipe()
	defer finish.Close()
	defer context.AfterFunc(ctx, func() { finish.Close() })()
	patient, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastWords, giveUp) })()
	post, err := http.NewRequestWithContext(patient, http.MethodPost, "http://overlane/capture", io.MultiReader(bytes.NewReader(body), open))
	if err != nil {
		return err
	}
	answer, err := controlClient(socket).Do(post)
	if err != nil && ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return unreachable(socket, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, err := io.ReadAll(answer.Body)
		return errors.Join(errors.New(strings.TrimSpace(string(text))), err)
	}
	decoder := gob.NewDecoder(answer.Body)
	for {
		var c captured
		err := decoder.Decode(&c)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("the daemon on %s captures no more: %w", socket, err)
		}
		if err := take(c); err != nil {
			return err
		}
	}
}
