package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Host is one Docker host of a cluster.
type Host struct {
	Name   string // of the container that is the host, for `docker exec`
	Number int    // from 1
	Addr   netip.Addr
	Addr6  netip.Addr

	first *os.Process
	env   []string // of the first process
}

// locate finds the first process of the host and its addresses, which are others after a start.
func (h *Host) locate(ctx context.Context) error {
	out, err := docker(ctx, "inspect", "--format", `{{json .}}`, h.Name)
	if err != nil {
		return err
	}
	var container struct {
		State           struct{ Pid int }
		Config          struct{ Env []string }
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress, GlobalIPv6Address netip.Addr }
		}
	}
	if err := json.Unmarshal([]byte(out), &container); err != nil {
		return fmt.Errorf("docker inspect %s: %w", h.Name, err)
	}
	for _, wire := range container.NetworkSettings.Networks {
		h.Addr, h.Addr6 = wire.IPAddress, wire.GlobalIPv6Address
	}
	if container.State.Pid == 0 {
		return fmt.Errorf("%s does not run", h.Name)
	}
	if h.first, err = os.FindProcess(container.State.Pid); err != nil {
		return err
	}
	return Wait(ctx, startTimeout, func(context.Context) error { return h.readEnv(container.Config.Env) })
}

// readEnv reads the first process's environment, once it is the host's own program: before that it is the container runtime, without this much.
func (h *Host) readEnv(want []string) error {
	text, err := os.ReadFile(h.proc("environ"))
	if err != nil {
		return fmt.Errorf("%s does not run: %w", h.Name, err)
	}
	h.env = strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
	for _, variable := range want {
		if !slices.Contains(h.env, variable) {
			return fmt.Errorf("%s: its first process has no %s yet", h.Name, variable)
		}
	}
	return nil
}

// proc is the path of a file in /proc about the first process. Below `root` are the host's own files.
func (h *Host) proc(file string) string { return fmt.Sprintf("/proc/%d/%s", h.first.Pid, file) }

// Exec runs a command on the host. It does what `docker exec` would do, in a tenth of the time.
func (h *Host) Exec(ctx context.Context, args ...string) (string, error) {
	if h.first == nil {
		return "", fmt.Errorf("%s was not found running when its cluster started", h.Name)
	}
	// Another process may have got the number of one that has ended.
	if err := h.first.Signal(syscall.Signal(0)); err != nil {
		return "", fmt.Errorf("%s does not run: %w", h.Name, err)
	}
	enter := []string{"--bounding-set=-sys_resource", "nsenter", "--all", "--target", strconv.Itoa(h.first.Pid), "--"}
	cmd := exec.CommandContext(ctx, "setpriv", append(enter, args...)...)
	cmd.Env = h.env
	out, err := run(cmd)
	if failed := (*CommandError)(nil); errors.As(err, &failed) {
		failed.Args = append([]string{"on " + h.Name + ":"}, args...)
	}
	return out, err
}

// Docker runs a docker command against the host's own engine.
func (h *Host) Docker(ctx context.Context, args ...string) (string, error) {
	return h.Exec(ctx, append([]string{"docker"}, args...)...)
}

// Log is what overlane has written on the host, and the end of what the engine has.
func (h *Host) Log(ctx context.Context) string {
	log, err := h.Exec(ctx, "sh", "-c", "overlane status 2>&1; echo; tail -n 200 /var/log/overlane.log; echo; tail -n 10 /var/log/dockerd.log")
	if err != nil {
		return err.Error()
	}
	return log
}

func (h *Host) ready(ctx context.Context) error {
	if _, err := h.Docker(ctx, "image", "inspect", "box"); err != nil {
		return err
	}
	_, err := h.Exec(ctx, "overlane", "status")
	return err
}

// Run starts a container of the image `box` on the host. The arguments are those of `docker run`, up to the image; the
// container's command is the image's, which serves its own name over HTTP and runs an iperf3 server.
func (h *Host) Run(ctx context.Context, name string, args ...string) (*Container, error) {
	args = append([]string{"run", "--detach", "--name", name, "--hostname", name}, args...)
	if _, err := h.Docker(ctx, append(args, "box")...); err != nil {
		return nil, err
	}
	return &Container{Host: h, Name: name}, nil
}

// Container is a container on a host of the lab.
type Container struct {
	Host *Host
	Name string
}

// Exec runs a command in the container.
func (c *Container) Exec(ctx context.Context, args ...string) (string, error) {
	return c.Host.Docker(ctx, append([]string{"exec", c.Name}, args...)...)
}

// Remove kills the container and removes it.
func (c *Container) Remove(ctx context.Context) error {
	_, err := c.Host.Docker(ctx, "rm", "--force", "--volumes", c.Name)
	return err
}

// Namespace is the path by which this machine sees the container's network namespace.
func (c *Container) Namespace(ctx context.Context) (string, error) {
	key, err := c.Host.Docker(ctx, "inspect", "--format", "{{.NetworkSettings.SandboxKey}}", c.Name)
	return c.Host.proc("root/run/docker/netns/" + path.Base(key)), err
}

// Attachment is a container's part in a network, as Docker tells it.
type Attachment struct {
	IPAddress         netip.Addr
	GlobalIPv6Address netip.Addr
	MacAddress        string
}

// Attachment tells how the container is attached to the network.
func (c *Container) Attachment(ctx context.Context, network string) (Attachment, error) {
	out, err := c.Host.Docker(ctx, "inspect", "--format", "{{json .NetworkSettings.Networks}}", c.Name)
	if err != nil {
		return Attachment{}, err
	}
	var networks map[string]Attachment
	if err := json.Unmarshal([]byte(out), &networks); err != nil {
		return Attachment{}, fmt.Errorf("docker inspect %s: %w", c.Name, err)
	}
	attachment, ok := networks[network]
	if !ok {
		return Attachment{}, fmt.Errorf("container %s is not attached to network %s, but to %s", c.Name, network, strings.TrimSpace(out))
	}
	return attachment, nil
}
