package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// reportTimeout is for how long a command may say something for a report.
const reportTimeout = 20 * time.Second

func bugreportCommand() *cobra.Command {
	f := new(controlFlags)
	var to string
	cmd := &cobra.Command{
		Use:   "bugreport",
		Short: "Collect what a maintainer wants to see of this host into an archive, without secrets",
		Long: "Collect what a maintainer wants to see of this host into an archive: what overlane and Docker say of themselves, the daemon's log, and how\n" +
			"the host's network stands. Tokens are left out. Names and addresses of hosts and containers are in it: look before you give it away.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if to == "" {
				host, _ := os.Hostname()
				to = fmt.Sprintf("overlane-%s-%s.tar.gz", host, time.Now().Format("20060102-150405"))
			}
			file, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
			if err != nil {
				return fmt.Errorf("--to: %w: choose another name", err)
			}
			defer func() { err = errors.Join(err, file.Close()) }()
			if err := writeReport(cmd.Context(), file, reportSources(f.socket)); err != nil {
				return fmt.Errorf("%s: %w", to, err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is written: names and addresses of hosts and containers are in it, tokens are not\n", to)
			return err
		},
	}
	// The manual shows defaults, and is the same wherever and whenever it is made.
	cmd.Flags().StringVar(&to, "to", "", "the archive, which must not be there yet (default: overlane-HOST-TIME.tar.gz)")
	f.addSocket(cmd)
	return cmd
}

// reportSource is a file of a report, and the command whose output it is: one of overlane's own, or another program.
type reportSource struct {
	file    string
	own     bool
	command []string
}

// reportSources are those of a host. What is not installed, or does not run, says so in its file.
func reportSources(socket string) []reportSource {
	ask := func(file string, args ...string) reportSource {
		return reportSource{file, true, append(args, "--control-socket", socket)}
	}
	return []reportSource{
		{"version.txt", true, []string{"version"}},
		ask("status.txt", "status"),
		ask("status.json", "status", "-o", "json"),
		ask("members.json", "status", "members", "-o", "json"),
		ask("records.json", "status", "records", "-o", "json"),
		ask("stages.txt", "status", "--datapath"),
		ask("addresses.json", "ipam", "-o", "json"),
		ask("networks.json", "network", "ls", "-o", "json"),
		ask("tokens.json", "token", "list", "-o", "json"), // fingerprints
		ask("check.txt", "check"),
		{"log.txt", false, []string{"journalctl", "--no-pager", "-u", "overlane", "-n", "10000"}},
		{"system.txt", false, []string{"sh", "-c", "uname -a; cat /etc/os-release; nproc; grep -m1 'model name' /proc/cpuinfo; grep -m1 flags /proc/cpuinfo; free -m; grep -i huge /proc/meminfo; uptime"}},
		{"links.txt", false, []string{"ip", "-d", "-s", "link"}},
		{"addresses.txt", false, []string{"ip", "addr"}},
		{"routes.txt", false, []string{"sh", "-c", "ip rule; ip route show table all; ip -6 rule; ip -6 route show table all"}},
		{"neighbours.txt", false, []string{"ip", "neigh"}},
		{"sockets.txt", false, []string{"ss", "-anup", "-m"}},
		{"nftables.txt", false, []string{"nft", "-s", "list", "ruleset"}},
		{"iptables.txt", false, []string{"iptables-save"}},
		{"docker.txt", false, []string{"sh", "-c", "docker version; docker plugin ls; docker network ls; docker network inspect $(docker network ls -q)"}},
	}
}

// aToken is the text of one: see discovery.Token.
var aToken = regexp.MustCompile(`overlane1-[A-Za-z0-9_-]+`)

// writeReport writes the archive: tar (POSIX.1-2001) in gzip (RFC 1952), all files in one folder.
func writeReport(ctx context.Context, out io.Writer, sources []reportSource) error {
	zipped := gzip.NewWriter(out)
	archive := tar.NewWriter(zipped)
	for _, s := range sources {
		text := aToken.ReplaceAll(s.run(ctx), []byte("overlane1-(left out)"))
		header := &tar.Header{Name: "overlane-report/" + s.file, Mode: 0o644, Size: int64(len(text)), ModTime: time.Now()}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(text); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), zipped.Close())
}

// run gives what the command says, and how it ended if not well.
func (s reportSource) run(ctx context.Context) []byte {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	var said bytes.Buffer
	run := runProgram
	if s.own {
		run = runOwn
	}
	if err := run(ctx, &said, s.command); err != nil {
		fmt.Fprintf(&said, "\n%s: %v\n", strings.Join(s.command, " "), err)
	}
	return said.Bytes()
}

func runProgram(ctx context.Context, said io.Writer, command []string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = said, said
	cmd.WaitDelay = time.Second
	return cmd.Run()
}

func runOwn(ctx context.Context, said io.Writer, command []string) error {
	root := rootCommand()
	root.SetArgs(command)
	root.SetOut(said)
	root.SetErr(said)
	return root.ExecuteContext(ctx)
}
