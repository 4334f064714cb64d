// Package engine hears from Docker's engine what containers and networks are called, by its API over a unix socket
// (docs.docker.com/reference/api/engine). It knows nothing else of overlane.
package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"
)

const (
	// askTimeout bounds each question: while a container starts, the engine does not tell of it.
	askTimeout = 10 * time.Second
	// maxAnswer bounds what is read of one, in bytes: a thousand containers are two million.
	maxAnswer = 64 << 20
)

// client asks the engine. It asks for no version of the API: what it reads has been the same in all that there are.
type client struct{ http http.Client }

// newClient keeps a connection for some seconds, for the next question.
func newClient(socket string) *client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &client{http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConns: 1, IdleConnTimeout: 10 * time.Second}}}
}

// get opens an answer, which the caller closes.
func (c *client) get(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		defer answer.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
		return nil, &statusError{answer.StatusCode, fmt.Sprintf("GET %s: %s: %s", path, answer.Status, text)}
	}
	return answer.Body, nil
}

// statusError is an answer of the engine's that tells of an error.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return e.text }

// ask reads a whole answer.
func ask[T any](ctx context.Context, c *client, path string, query url.Values) (answer T, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	body, err := c.get(ctx, path, query)
	if err != nil {
		return answer, err
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(&answer); err != nil {
		return answer, fmt.Errorf("GET %s: %w", path, err)
	}
	return answer, nil
}

// explain says in words why nobody answers on a socket.
func explain(socket string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no engine answers on %s", socket)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("the engine's socket %s may not be used by this process", socket)
	}
	return fmt.Errorf("the engine on %s: %w", socket, err)
}

// Version is that of the engine which answers on a socket, such as 28.5.2. The error says why none does.
func Version(ctx context.Context, socket string) (string, error) {
	answer, err := ask[struct{ Version string }](ctx, newClient(socket), "/version", nil)
	if err != nil {
		return "", explain(socket, err)
	}
	return answer.Version, nil
}
