package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/cobra"
)

func statusCommand() *cobra.Command {
	var output, socket string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show this node, its cluster, networks, endpoints and counters",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return fmt.Errorf("--output %q: want table or json", output)
			}
			status, err := fetchStatus(cmd.Context(), socket)
			if err != nil {
				return err
			}
			if output == "json" {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				return encoder.Encode(status)
			}
			return writeTables(cmd.OutOrStdout(), status)
		},
	}
	path := defaultControlSocket
	if env := os.Getenv("OVERLANE_CONTROL_SOCKET"); env != "" {
		path = env
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "form of the answer: table or json")
	cmd.Flags().StringVar(&socket, "control-socket", path, "socket of the daemon [$OVERLANE_CONTROL_SOCKET]")
	return cmd
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
