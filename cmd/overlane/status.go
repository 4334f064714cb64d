package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/spf13/cobra"
)

// controlFlags are those of the commands that ask the daemon.
type controlFlags struct {
	output, format, socket string
	watch                  bool
}

func (f *controlFlags) addOutput(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVarP(&f.output, "output", "o", "table", "form of the answer: table, json or yaml")
	cmd.PersistentFlags().StringVar(&f.format, "format", "", "Go template of the answer, over the names that -o json shows, with the functions json and join: '{{range .members}}{{.host}} {{.state}}{{println}}{{end}}'")
}

// addWatch has answers shown again and again.
func (f *controlFlags) addWatch(cmd *cobra.Command) {
	cmd.PersistentFlags().BoolVarP(&f.watch, "watch", "w", false, "show it anew every two seconds, until interrupted")
}

func (f *controlFlags) addSocket(cmd *cobra.Command) {
	path := defaultControlSocket
	if env := os.Getenv("OVERLANE_CONTROL_SOCKET"); env != "" {
		path = env
	}
	cmd.PersistentFlags().StringVar(&f.socket, "control-socket", path, "socket of the daemon [$OVERLANE_CONTROL_SOCKET]")
}

func statusCommand() *cobra.Command {
	f := new(controlFlags)
	var stages bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show this node, its cluster, networks, endpoints and counters",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if stages {
				return show(cmd, f, "stages", writeStages)
			}
			return show(cmd, f, "status", writeTables)
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "members",
		Short: "Show the hosts of the cluster, and of each that is not well why, and the next step",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return show(cmd, f, "members", writeMembers) },
	}, &cobra.Command{
		Use:   "records",
		Short: "Show every endpoint that was announced in this host's networks; hosts that agree show the same of a network",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return show(cmd, f, "records", writeRecords) },
	})
	f.addOutput(cmd)
	f.addWatch(cmd)
	cmd.Flags().BoolVar(&stages, "datapath", false, "measure for a second what the workers spend their cycles on, and show that")
	f.addSocket(cmd)
	return cmd
}

// show asks the daemon and writes what it answers.
func show[T any](cmd *cobra.Command, f *controlFlags, what string, tables func(io.Writer, T) error) error {
	if err := f.checkOutput(); err != nil {
		return err
	}
	once := func(out io.Writer) error {
		answer, err := fetch[T](cmd.Context(), f.socket, what)
		if err != nil {
			return err
		}
		return write(out, f, answer, tables)
	}
	if f.watch {
		out := cmd.OutOrStdout()
		return watch(cmd.Context(), out, cmd.ErrOrStderr(), isTerminal(out), once)
	}
	return once(cmd.OutOrStdout())
}

var errNotRunning = errors.New("overlane is not running")

// unreachable says in words why no daemon answers.
func unreachable(path string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: no daemon answers on %s; start it with `overlane daemon`", errNotRunning, path)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s may be used by root alone: run the command as root", path)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the daemon on %s does not answer within %s: see what its log says last; where a packet worker does not run, what waits for it keeps others waiting", path, controlTimeout)
	}
	return fmt.Errorf("the daemon on %s does not answer: %w", path, err)
}
