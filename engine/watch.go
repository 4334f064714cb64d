package engine

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
)

// Config says what to tell of the engine.
type Config struct {
	Socket string // its path
	// Wanted says whether a network's containers are of interest, by Docker's NetworkID.
	Wanted func(network string) bool
	// Container tells what an endpoint's container is called on its network; its own name comes first.
	Container func(network, endpoint string, names []string)
	// Network tells what a network is called.
	Network func(id, name string)
	// Networks tells that a network was created, destroyed, or disconnected from a container, in the words of the engine's events; empty: the
	// engine was not heard for a while.
	Networks func(action string)
	Log      logrus.FieldLogger
}

// Watcher follows the engine's containers and networks, until it is closed. All is called from goroutines of its own.
type Watcher struct {
	cfg    Config
	client *client
	cancel context.CancelFunc
	marked bool // a running engine has its PID file beside the socket
	done   sync.WaitGroup

	mu   sync.Mutex
	err  error // why it hears nothing; nil: it does
	said bool  // in the log
}

// How long is waited before the engine is tried again, at first and at most.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
)

// asking is how many containers the engine is asked about at a time: one that starts is answered for when it has.
const asking = 16

// lookAgain is how long a container is left alone of which the engine has not told.
const lookAgain = time.Second

var errStopped = errors.New("it was stopped")

var errNotYet = errors.New("the engine was not heard of yet")

// Watch begins at once, and waits for nothing.
func Watch(cfg Config) *Watcher {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Watcher{cfg: cfg, client: newClient(cfg.Socket), cancel: cancel, err: errNotYet}
	w.done.Go(func() { w.run(ctx) })
	return w
}

// Close ends it, and waits for calls under way.
func (w *Watcher) Close() {
	w.cancel()
	w.done.Wait()
}

// Err says why nothing is heard of the engine; nil: it is.
func (w *Watcher) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

func (w *Watcher) run(ctx context.Context) {
	for pause := firstPause; ctx.Err() == nil; pause = min(2*pause, lastPause) {
		began := time.Now()
		err := errStopped
		if !w.stopped() {
			err = w.follow(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		w.note(explain(w.cfg.Socket, err), pause == lastPause)
		if time.Since(began) > lastPause {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// pidFile is where an engine that runs has its PID, beside the socket.
const pidFile = "docker.pid"

func (w *Watcher) hasPIDFile() bool {
	_, err := os.Stat(filepath.Join(filepath.Dir(w.cfg.Socket), pidFile))
	return err == nil
}

// stopped says that the engine was ended. It is not connected to then: where systemd listens on its socket, that would start it again.
func (w *Watcher) stopped() bool { return w.marked && !w.hasPIDFile() }

// note keeps why nothing is heard, and says it once when it lasts: an engine that starts or restarts is away for some seconds.
func (w *Watcher) note(err error, lasts bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
	switch {
	case err == nil && w.said:
		w.said = false
		w.cfg.Log.Info("the engine tells again what containers are called")
	case err != nil && lasts && !w.said:
		w.said = true
		w.cfg.Log.WithError(err).Warn("containers started from now on have no names: overlane tries again")
	}
}

// follow takes part in the engine's events, then looks at all that there is, and then at what changes, until the engine ends it.
func (w *Watcher) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := w.client.get(ctx, "/events", url.Values{"filters": {filters}})
	if err != nil {
		return err
	}
	defer stream.Close()
	w.marked = w.hasPIDFile()
	changed, joined, starting := newQueue(), newQueue(), newStarting(w.cfg.Container)
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error {
		for events := json.NewDecoder(stream); ; {
			var e event
			if err := events.Decode(&e); err != nil {
				return err
			}
			w.hear(&e, changed, joined, starting)
		}
	})
	running.Go(func() error {
		err := w.lookAtAll(ctx, changed)
		if err == nil {
			w.note(nil, false)
			w.cfg.Networks("")
		}
		return err
	})
	for range asking {
		running.Go(func() error {
			return each(ctx, changed, func(id string) {
				if err := w.look(ctx, id, starting); err != nil {
					w.cfg.Log.WithError(err).WithField("container", id[:min(len(id), 12)]).Debug("what a container is called is not known yet")
					time.AfterFunc(lookAgain, func() { changed.add(id) })
				}
			})
		})
	}
	running.Go(func() error {
		return each(ctx, joined, func(network string) {
			if err := w.lookAtNetwork(ctx, starting, network); err != nil {
				w.cfg.Log.WithError(err).WithField("network", network).Debug("who joins a network is not known before they run")
			}
		})
	})
	running.Go(func() error {
		<-ctx.Done()
		stream.Close() // Decode does not hear of the context
		return ctx.Err()
	})
	return running.Wait()
}

// hear has looked at what an event is about.
func (w *Watcher) hear(e *event, changed, joined *queue, starting *starting) {
	network := e.Type == "network" && w.cfg.Wanted(e.Actor.ID)
	if e.Type == "network" {
		w.cfg.Networks(e.Action)
	}
	switch {
	case network && e.Action == NetworkCreated:
		w.cfg.Network(e.Actor.ID, e.Actor.Attributes["name"])
	case network && e.Action == networkConnected:
		starting.connected(e.about())
		joined.add(e.Actor.ID)
	case e.Type == "container" && e.Action == containerRemoved:
		starting.removed(e.Actor.ID)
	}
	if e.renames() {
		changed.add(e.about())
	}
}

// lookAtAll tells of all networks, and has the containers on them looked at.
func (w *Watcher) lookAtAll(ctx context.Context, changed *queue) error {
	networks, err := ask[[]struct{ ID, Name string }](ctx, w.client, "/networks", nil)
	if err != nil {
		return err
	}
	for _, n := range networks {
		if w.cfg.Wanted(n.ID) {
			w.cfg.Network(n.ID, n.Name)
		}
	}
	type summary struct {
		ID              string `json:"Id"`
		NetworkSettings struct {
			Networks map[string]struct{ NetworkID string }
		}
	}
	containers, err := ask[[]summary](ctx, w.client, "/containers/json", nil)
	if err != nil {
		return err
	}
	for _, c := range containers {
		for _, n := range c.NetworkSettings.Networks {
			if w.cfg.Wanted(n.NetworkID) {
				changed.add(c.ID)
			}
		}
	}
	return nil
}

// look asks about a container. One that is gone has no names.
func (w *Watcher) look(ctx context.Context, id string, starting *starting) error {
	c, err := ask[inspected](ctx, w.client, "/containers/"+url.PathEscape(id)+"/json", nil)
	if gone := (*statusError)(nil); errors.As(err, &gone) && gone.code == http.StatusNotFound {
		starting.removed(id)
		return nil
	}
	if err != nil {
		return err
	}
	for called, at := range c.NetworkSettings.Networks {
		if at.EndpointID != "" && w.cfg.Wanted(at.NetworkID) {
			w.cfg.Network(at.NetworkID, called)
		}
	}
	starting.looked(&c, w.cfg.Wanted)
	return nil
}

// each takes what a queue holds, until the context ends.
func each(ctx context.Context, q *queue, do func(id string)) error {
	for {
		id, err := q.next(ctx)
		if err != nil {
			return err
		}
		do(id)
	}
}

// queue holds containers or networks to be looked at, each once.
type queue struct {
	mu    sync.Mutex
	ids   map[string]bool
	added chan struct{}
}

func newQueue() *queue { return &queue{ids: map[string]bool{}, added: make(chan struct{}, 1)} }

func (q *queue) add(id string) {
	if id == "" {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ids[id] = true
	q.wake()
}

func (q *queue) wake() {
	select {
	case q.added <- struct{}{}:
	default:
	}
}

// next takes one, and waits for it.
func (q *queue) next(ctx context.Context) (string, error) {
	for {
		q.mu.Lock()
		for id := range q.ids {
			delete(q.ids, id)
			if len(q.ids) > 0 {
				q.wake() // another one waits for it
			}
			q.mu.Unlock()
			return id, nil
		}
		q.mu.Unlock()
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-q.added:
		}
	}
}
