// Package plugin answers Docker's remote network and IPAM driver protocols (docs.docker.com/engine/extend/plugins_network,
// and libnetwork's docs/remote.md and docs/ipam.md). It translates between the protocol and package overlay; it decides nothing and keeps
// nothing.
package plugin

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/go-plugins-helpers/network"
	"github.com/docker/go-plugins-helpers/sdk"
	"github.com/sirupsen/logrus"

	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/overlay/ipam"
)

// How long a call waits for the daemon to be ready. Docker takes a plugin that says nothing for ten seconds for dead.
const startWait = 8 * time.Second

var errStopping = errors.New("overlane is stopping: try again when it runs")

// Overlay is what the plugin needs of package overlay.
type Overlay interface {
	CreateNetwork(overlay.NetworkSpec) error
	DeleteNetwork(id string) error
	CreateEndpoint(overlay.EndpointSpec) (overlay.Endpoint, error)
	DeleteEndpoint(networkID, id string) error
	Join(networkID, id, sandbox string) (overlay.Endpoint, error)
	Leave(networkID, id string) error
	RequestPool(overlay.PoolSpec) (id string, subnet netip.Prefix, err error)
	ReleasePool(id string) error
	RequestAddress(pool string, r ipam.Request) (netip.Prefix, error)
	ReleaseAddress(pool string, addr netip.Addr) error
	AllocateNetwork(id string, options map[string]string) (map[string]string, error)
	FreeNetwork(id string) error
	EngineStarted()
}

// Cluster is what the plugin needs of package discovery.
type Cluster interface {
	AddSeed(netip.Addr)
	RemoveSeed(netip.Addr)
}

// Plugin serves Docker's calls. Until Ready is called they wait.
type Plugin struct {
	scope     string // network.LocalScope or GlobalScope
	log       logrus.FieldLogger
	startWait time.Duration

	lacks   atomic.Pointer[error] // what the start waits for
	ready   chan struct{}         // closed by Ready
	stop    chan struct{}         // closed by Close
	refused chan struct{}         // closed by Refuse
	reason  error                 // to be read when refused is closed
	early   atomic.Bool           // an engine has started before Ready, and all that it says still waits
	overlay Overlay               // to be read when ready is closed
	cluster Cluster               // like overlay
	calls   sync.RWMutex          // held to read by every call under way
}

// New makes a plugin that is not ready, for networks of a scope of Docker's: local or global.
func New(scope string, log logrus.FieldLogger) *Plugin {
	return &Plugin{scope: scope, log: log, startWait: startWait, ready: make(chan struct{}), stop: make(chan struct{}), refused: make(chan struct{})}
}

// implements is the answer to Plugin.Activate.
type implements struct{ Implements []string }

// Serve answers on the listener until that is closed.
func (p *Plugin) Serve(l net.Listener) error {
	h := network.NewHandler(driver{p})
	p.handleActivate(h)
	driver{p}.handle(h)
	ipamDriver{p}.handle(h)
	err := h.Serve(l)
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// handleActivate answers an engine that starts. The helper names one driver.
func (p *Plugin) handleActivate(h *network.Handler) {
	h.HandleFunc("POST /Plugin.Activate", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Accept"), "application/vnd.docker.plugins.") { // an engine, and no look at the socket by others
			p.engineStarted()
		}
		sdk.EncodeResponse(w, implements{[]string{"NetworkDriver", "IpamDriver"}}, false)
	})
}

// Waits says what the start waits for, nil for nothing to be named: calls that come to an end meanwhile say it too.
func (p *Plugin) Waits(err error) { p.lacks.Store(&err) }

func (p *Plugin) engineStarted() {
	select {
	case <-p.ready:
		p.overlay.EngineStarted()
	default:
		p.early.Store(true)
		select {
		case <-p.ready: // meanwhile, and may not have seen it
			p.overlay.EngineStarted()
		default:
		}
	}
}

// Ready lets Docker's calls through to the overlay and the cluster. It is called once.
func (p *Plugin) Ready(o Overlay, c Cluster) {
	p.overlay, p.cluster = o, c
	if p.early.Load() {
		o.EngineStarted()
	}
	close(p.ready)
}

// Refuse has every further call fail for a reason, ready or not, and waits for those under way. It is called once.
func (p *Plugin) Refuse(reason error) {
	p.reason = reason
	close(p.refused)
	p.calls.Lock()
	defer p.calls.Unlock()
}

// Close refuses further calls and waits for those under way.
func (p *Plugin) Close() {
	close(p.stop)
	p.calls.Lock()
	defer p.calls.Unlock()
}

// Docker's IDs of 64 digits are known to people by the first 12.
const longID, shortID = 64, 12

// call runs do when the daemon is ready, and logs how it went.
func (p *Plugin) call(method, id string, do func(Overlay) error) error {
	p.calls.RLock()
	defer p.calls.RUnlock()
	start := time.Now()
	err := p.wait()
	if err == nil {
		err = do(p.overlay)
	}
	if len(id) == longID {
		id = id[:shortID]
	}
	log := p.log.WithFields(logrus.Fields{"call": method, "id": id, "took": time.Since(start)})
	if err != nil {
		log.WithError(err).Warn("refused a call of Docker's")
	} else {
		log.Debug("answered a call of Docker's")
	}
	return err
}

func (p *Plugin) wait() error {
	timeout := time.NewTimer(p.startWait)
	defer timeout.Stop()
	select {
	case <-p.stop:
		return errStopping
	case <-p.refused:
		return p.reason
	case <-p.ready:
	case <-timeout.C:
		p.early.Store(false)
		if err := p.lacks.Load(); err != nil && *err != nil {
			return fmt.Errorf("overlane waits for this host's address: %w", *err)
		}
		return fmt.Errorf("overlane is still starting after %s: try again, and look at its log", p.startWait)
	}
	select {
	case <-p.stop: // more than one may be closed
		return errStopping
	case <-p.refused:
		return p.reason
	default:
		return nil
	}
}
