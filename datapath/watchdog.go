package datapath

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/overlane/overlane/datapath/dp"
)

const (
	watchInterval = time.Second
	// stuckAfter is how many wakes in succession a worker has not taken when it is said not to run: it takes one within milliseconds.
	stuckAfter = 3
)

// watchdog wakes the workers each second, and notices one that does not run: a thread that is stopped, or kept from its CPU. Turns are
// counted, not time, so that a machine that was paused is no fault of a worker's. It waits for no lock: who holds one may wait for that worker.
type watchdog struct {
	stopOnce    sync.Once
	done, ended chan struct{}
	silent      []atomic.Int32 // wakes that each worker has not taken
}

func (d *Datapath) watchWorkers() {
	d.watchdog = &watchdog{done: make(chan struct{}), ended: make(chan struct{}), silent: make([]atomic.Int32, len(d.workers))}
	go func() {
		defer close(d.watchdog.ended)
		for {
			select {
			case <-d.watchdog.done:
				return
			case <-time.After(watchInterval):
				d.lookAtWorkers(dp.WorkerAnswers)
			}
		}
	}()
}

func (d *Datapath) lookAtWorkers(answers func(worker int) bool) {
	for i, cpu := range d.workers {
		log := d.log.WithField("cpu", cpu)
		switch silent := &d.watchdog.silent[i]; {
		case !answers(i):
			if silent.Add(1) == stuckAfter {
				log.Error("a packet worker does not run: containers' packets wait for it")
			}
		case silent.Swap(0) >= stuckAfter:
			log.Info("the packet worker runs again")
		}
	}
}

// stuck gives the CPUs of workers that do not run.
func (d *Datapath) stuck() (cpus []int) {
	for i, cpu := range d.workers {
		if d.watchdog != nil && d.watchdog.silent[i].Load() >= stuckAfter {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}

func (w *watchdog) stop() {
	w.stopOnce.Do(func() { close(w.done) })
	<-w.ended
}
