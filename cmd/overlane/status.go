package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/spf13/cobra"
)

func statusCommand() *cobra.Command {
	var output, socket string
	var stages bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show this node, its cluster, networks, endpoints and counters",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return fmt.Errorf("--output %q: want table or json", output)
			}
			if stages {
				return show(cmd, socket, "stages", output, writeStages)
			}
			return show(cmd, socket, "status", output, writeTables)
		},
	}
	path := defaultControlSocket
	if env := os.Getenv("OVERLANE_CONTROL_SOCKET"); env != "" {
		path = env
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "form of the answer: table or json")
	cmd.Flags().BoolVar(&stages, "datapath", false, "measure for a second what the workers spend their cycles on, and show that")
	cmd.Flags().StringVar(&socket, "control-socket", path, "socket of the daemon [$OVERLANE_CONTROL_SOCKET]")
	return cmd
}

// show asks the daemon and writes what it answers.
func show[T any](cmd *cobra.Command, socket, what, output string, tables func(io.Writer, T) error) error {
	answer, err := fetch[T](cmd.Context(), socket, what)
	if err != nil {
		return err
	}
	if output == "json" {
		encoder := json.NewEncoder(cmd.OutOrStdout())
		encoder.SetIndent("", "  ")
		return encoder.Encode(answer)
	}
	return tables(cmd.OutOrStdout(), answer)
}

// unreachable says in words why no daemon answers.
func unreachable(path string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("overlane is not running: no daemon answers on %s; start it with `overlane daemon`", path)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s may be used by root alone: run the command as root", path)
	}
	return fmt.Errorf("the daemon on %s does not answer: %w", path, err)
}
