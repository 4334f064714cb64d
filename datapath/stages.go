package datapath

import (
	"context"
	"time"

	"github.com/overlane/overlane/datapath/dp"
)

// Stage is what one stage of the workers' turns cost while it was measured.
type Stage struct {
	Name    string `json:"name"`
	Help    string `json:"help"`
	Cycles  uint64 `json:"cycles"`
	Packets uint64 `json:"packets"`
}

// Stages is one measurement, summed over the workers. A worker that sleeps spends no cycles.
type Stages struct {
	CyclesPerSecond uint64  `json:"cycles_per_second"` // of each worker, awake or asleep
	Seconds         float64 `json:"seconds"`
	Stages          []Stage `json:"stages"` // in the order of a packet's way
}

// Stages has the workers measure themselves for a while, or until ctx ends. Nothing is measured at other times.
func (d *Datapath) Stages(ctx context.Context, length time.Duration) (Stages, error) {
	d.measuring.Lock() // one at a time: the first to end would end the others
	defer d.measuring.Unlock()
	before, hz, err := d.measure(true)
	if err != nil {
		return Stages{}, err
	}
	begin := time.Now()
	select {
	case <-ctx.Done():
	case <-time.After(length):
	}
	elapsed := time.Since(begin)
	after, _, err := d.measure(false)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return Stages{}, err
	}
	s := Stages{CyclesPerSecond: hz, Seconds: elapsed.Seconds()}
	for i, a := range after {
		s.Stages = append(s.Stages, Stage{a.Name, a.Help, a.Cycles - before[i].Cycles, a.Packets - before[i].Packets})
	}
	return s, nil
}

// measure turns measuring on or off, and reads what was counted.
func (d *Datapath) measure(on bool) ([]dp.Stage, uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, 0, errClosed
	}
	dp.MeasureStages(on)
	return dp.ReadStages(), dp.CyclesHz(), nil
}
