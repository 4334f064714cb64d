package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
)

// recorder passes requests on to a plugin, and writes each with its answer, in the order of the answers: the method, the request,
// and the answer behind "= ", or behind "! " where it is an error. An empty line ends an exchange.
type recorder struct {
	plugin *http.Client
	mu     sync.Mutex
	out    io.Writer
}

// newRecorder passes requests on to the plugin that listens on a socket.
func newRecorder(out io.Writer, socket string) *recorder {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &recorder{plugin: &http.Client{Transport: &http.Transport{DialContext: dial}}, out: out}
}

// ServeHTTP implements http.Handler.
func (r *recorder) ServeHTTP(w http.ResponseWriter, asked *http.Request) {
	method := strings.TrimPrefix(asked.URL.Path, "/")
	request, err := io.ReadAll(asked.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer, body, err := r.ask(asked, method, request)
	if err != nil {
		http.Error(w, fmt.Sprintf("overlane does not answer the recorder: %v", err), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", answer.Header.Get("Content-Type"))
	w.WriteHeader(answer.StatusCode)
	w.Write(body)
	r.write(method, request, answer.StatusCode, body)
}

func (r *recorder) ask(asked *http.Request, method string, body []byte) (*http.Response, []byte, error) {
	request, err := http.NewRequestWithContext(asked.Context(), asked.Method, "http://overlane/"+method, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	request.Header = asked.Header
	answer, err := r.plugin.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer answer.Body.Close()
	read, err := io.ReadAll(answer.Body)
	return answer, read, err
}

func (r *recorder) write(method string, request []byte, status int, answer []byte) {
	var block bytes.Buffer
	fmt.Fprintln(&block, method)
	if text := bytes.TrimSpace(request); len(text) > 0 {
		fmt.Fprintf(&block, "%s\n", text)
	}
	mark := '='
	if status != http.StatusOK {
		mark = '!'
	}
	fmt.Fprintf(&block, "%c %s\n\n", mark, bytes.TrimSpace(answer))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out.Write(block.Bytes())
}
