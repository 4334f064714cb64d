package testbed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Daemon is overlane in a host's namespace.
type Daemon struct {
	Binary    string
	Namespace string
	Dir       string // keeps its data, sockets and log
	Host      string // its address
	Join      string
	CPU       int // of its worker

	Token    string // of its cluster
	Underlay string // --underlay; empty: what it chooses

	process *exec.Cmd
	client  http.Client
}

func (d *Daemon) file(name string) string { return filepath.Join(d.Dir, name) }

// Start returns when the daemon serves Docker; the error of one that does not has its log.
func (d *Daemon) Start(ctx context.Context) error {
	if err := os.MkdirAll(d.Dir, 0o755); err != nil {
		return err
	}
	log, err := os.Create(d.file("log"))
	if err != nil {
		return err
	}
	defer log.Close()
	d.process = Command(ctx, d.Namespace, d.Binary, "daemon", "--advertise", d.Host, "--join", d.Join, "--cpus", fmt.Sprint(d.CPU),
		"--data-dir", d.file("data"), "--plugin-socket", d.file("plugin.sock"), "--control-socket", d.file("control.sock"))
	d.process.Env = append(os.Environ(), "OVERLANE_TOKEN="+d.Token, "OVERLANE_UNDERLAY="+d.Underlay)
	d.process.Stdout, d.process.Stderr = log, log
	d.process.Cancel = func() error { return d.process.Process.Signal(syscall.SIGTERM) }
	d.client.Transport = &http.Transport{DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
		socket, _, _ := strings.Cut(address, ":")
		return net.Dial("unix", d.file(socket))
	}}
	if err := d.process.Start(); err != nil {
		return err
	}
	if err := Eventually(ctx, func() error { return d.Call(ctx, "NetworkDriver.GetCapabilities", nil, nil) }); err != nil {
		text, _ := os.ReadFile(d.file("log"))
		return fmt.Errorf("%w\n%s", err, text)
	}
	return nil
}

// End has the daemon end by a signal, and waits for it.
func (d *Daemon) End(signal os.Signal) {
	if d.process == nil || d.process.Process == nil {
		return
	}
	d.process.Process.Signal(signal)
	d.process.Wait()
	d.client.CloseIdleConnections()
}

// Leave has the daemon leave the cluster for good, and waits for its end.
func (d *Daemon) Leave(ctx context.Context) error {
	if _, err := d.exchange(ctx, http.MethodPost, "http://control.sock/leave", nil); err != nil {
		return err
	}
	d.process.Wait()
	d.client.CloseIdleConnections()
	return nil
}

// PID is the process's: `ip netns exec` becomes the daemon.
func (d *Daemon) PID() int { return d.process.Process.Pid }

// Call posts one request of Docker's protocol, and takes what the answer has of the fields of result.
func (d *Daemon) Call(ctx context.Context, method string, body, result any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	said, err := d.exchange(ctx, http.MethodPost, "http://plugin.sock/"+method, bytes.NewReader(text))
	if err != nil {
		return err
	}
	var refusal struct{ Err, Error string }
	if err := json.Unmarshal(said, &refusal); err != nil {
		return fmt.Errorf("%s: %w: %s", method, err, said)
	}
	if text := refusal.Err + refusal.Error; text != "" {
		return fmt.Errorf("%s: %s", method, text)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(said, result)
}

// Status is the part of `overlane status -o json` that tells what the daemon knows of others.
type Status struct {
	Members []struct{ State string }
	Remote  []struct{} `json:"remote_endpoints"`
}

// Status asks for it.
func (d *Daemon) Status(ctx context.Context) (s Status, err error) {
	said, err := d.exchange(ctx, http.MethodGet, "http://control.sock/status", nil)
	if err == nil {
		err = json.Unmarshal(said, &s)
	}
	return s, err
}

func (d *Daemon) exchange(ctx context.Context, method, url string, body io.Reader) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	response, err := d.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(response.Status + ": " + string(said))
	}
	return said, err
}
