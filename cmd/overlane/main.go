// Command overlane is a Docker network driver: the daemon that runs on every host, and the operator's commands.
package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
)

func main() {
	if err := rootCommand().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "overlane:", err)
		os.Exit(1)
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "overlane",
		Short:         "Docker overlay networks with a DPDK VXLAN datapath",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(daemonCommand(), checkCommand(), statusCommand(), topCommand(), networkCommand(), resolveCommand(), connectivityCommand(), traceCommand(), captureCommand(), ipamCommand(), tokenCommand(), withdrawCommand(), attachCommand(), detachCommand(), leaveCommand(), bugreportCommand(), versionCommand(), manCommand())
	return root
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run:   func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "overlane", version()) },
	}
}

// release is what `git describe` said of the source, where the Makefile built this.
var release string

// version is the release's, or what the Go toolchain knows: the module's version, which names the commit where no tag does.
func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}

// built is when the commit was made that this program was made of; zero where the build does not know it.
func built() time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			at, _ := time.Parse(time.RFC3339, s.Value)
			return at
		}
	}
	return time.Time{}
}
