package main

import (
	"errors"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/overlane/overlane/internal/check"
)

func checkCommand() *cobra.Command {
	f := new(controlFlags)
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say whether this host can run overlane well, and what to do where it can't",
		Long: "Say whether this host can run overlane well, and what to do where it can't: CPU, kernel, clock, ports, firewall, and\n" +
			"the way to the other hosts, which are the running daemon's members, else those of --join. It takes the daemon's flags\n" +
			"and environment variables, and changes nothing. Its exit status is 1 when something fails.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.checkOutput(); err != nil {
				return err
			}
			s, err := readSettings(cmd.Flags(), daemonSettings)
			if err == nil {
				err = s.findAddress()
			}
			if err != nil {
				return err
			}
			results := examine(cmd.Context(), s)
			if err := write(cmd.OutOrStdout(), f, results, writeResults); err != nil {
				return err
			}
			if check.Failed(results) {
				return errors.New("this host can't run overlane well")
			}
			return nil
		},
	}
	addFlags(cmd.Flags(), daemonSettings)
	f.addOutput(cmd)
	return cmd
}

func writeResults(out io.Writer, results []check.Result) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row(w, "CHECK", "STATE", "SEEN", "CURE")
	for _, r := range results {
		row(w, r.Check, r.State, r.Seen, r.Cure)
	}
	return w.Flush()
}
