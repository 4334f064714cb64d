package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/overlane/overlane/datapath"
)

// writeStages writes a measurement for people. CPU is of one worker's: two busy workers have 200 %.
func writeStages(out io.Writer, s datapath.Stages) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row(w, "STAGE", "CPU", "PACKETS", "CYCLES/PACKET", "WHAT")
	for _, stage := range s.Stages {
		each := ""
		if stage.Packets > 0 {
			each = fmt.Sprintf("%.0f", float64(stage.Cycles)/float64(stage.Packets))
		}
		cpu := 100 * float64(stage.Cycles) / (float64(s.CyclesPerSecond) * s.Seconds)
		row(w, stage.Name, fmt.Sprintf("%.1f %%", cpu), stage.Packets, each, stage.Help)
	}
	return w.Flush()
}
