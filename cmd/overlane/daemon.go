package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/overlane/overlane/connectivity"
	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/discovery"
	"github.com/overlane/overlane/engine"
	"github.com/overlane/overlane/hostnet"
	"github.com/overlane/overlane/names"
	"github.com/overlane/overlane/networks"
	"github.com/overlane/overlane/overlay"
	"github.com/overlane/overlane/plugin"
)

func daemonCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "daemon",
		Short: "Run the network driver on this host",
		Long: "Run the network driver on this host. Every flag has an environment variable, which counts where the flag is\n" +
			"not given. SIGTERM and SIGINT end it: containers keep their interfaces, which a new start takes back, and the other hosts\n" +
			"keep their records for some seconds, unless the host shuts down or has no container on a network.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := readSettings(cmd.Flags(), daemonSettings)
			if err != nil {
				return err
			}
			log := logrus.New()
			log.SetLevel(s.logLevel)
			log.SetFormatter(s.logFormat)
			if s.exposed != "" {
				log.WithField("file", s.exposed).Warn("everybody on this host may read the token's file, or write it: run chmod o= on it")
			}
			ctx, cancel := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer cancel()
			return run(ctx, s, log)
		},
	}
	addFlags(cmd.Flags(), daemonSettings)
	return cmd
}

// run starts the daemon, waits for the context's end and stops it. The sockets are served before the rest comes up:
// Docker waits ten seconds for a plugin, and a restarted one may be asked at once.
func run(ctx context.Context, s settings, log *logrus.Logger) error {
	driver := plugin.New(s.scope, log)
	pluginListener, err := listen(s.pluginSocket)
	if err != nil {
		return fmt.Errorf("--plugin-socket (OVERLANE_PLUGIN_SOCKET): %w", err)
	}
	stopDriver := sync.OnceFunc(func() {
		pluginListener.Close()
		driver.Close()
	})
	defer stopDriver()

	controlListener, err := listen(s.controlSocket)
	if err != nil {
		return fmt.Errorf("--control-socket (OVERLANE_CONTROL_SOCKET): %w", err)
	}
	defer controlListener.Close()

	var metricsListener net.Listener
	if s.metrics != "" {
		if metricsListener, err = net.Listen("tcp", s.metrics); err != nil {
			return fmt.Errorf("--metrics (OVERLANE_METRICS): %w", err)
		}
		defer metricsListener.Close()
	}

	webListener, err := s.listenWeb()
	if err != nil {
		return err
	}

	failed := make(chan error, 4)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	ctl := newControl(func() { stop(errLeave) })
	go func() { failed <- driver.Serve(pluginListener) }()
	go func() { failed <- ctl.server.Serve(controlListener) }()
	stopWeb := func() {}
	if webListener != nil {
		stopWeb = ctl.serveWeb(s, webListener, failed)
		defer stopWeb()
	}

	err = s.awaitAddress(ctx, func(err error) {
		if err != nil {
			log.WithError(err).Warn("overlane waits for this host's address")
		}
		driver.Waits(err)
		ctl.waits(err)
	})
	if err != nil || ctx.Err() != nil {
		return err
	}
	n, err := startNode(s, log)
	if twin := (*discovery.TwinError)(nil); errors.As(err, &twin) {
		refuse(twin, driver, ctl, log)
		return stay(ctx, failed)
	}
	if err != nil {
		return err
	}
	driver.Ready(n.overlay, n.cluster)
	ctl.networks.Store(n.networks)
	ctl.tests.Store(n.tests)
	stats := n.datapath.Stats
	ctl.stats.Store(&stats)
	ctl.overlay.Store(n.overlay)
	var k keyring = n.cluster
	ctl.keyring.Store(&k)
	stopMetrics := func() {}
	if metricsListener != nil {
		handler := metricsHandler(traffic{stats: n.datapath.Stats, named: n.overlay.TrafficOf, networks: n.overlay.NetworkTraffic}, n.cluster, pipeline(n.datapath.Stats), queries(n.overlay.Names), keyAges(n.overlay.Encryption), addressUsage(n.overlay.AddressUsage))
		stopMetrics = serveMetrics(handler, metricsListener, failed)
	}
	log.WithFields(logrus.Fields{"vtep": netip.AddrPortFrom(s.vtep(), s.vxlanPort), "version": version()}).Info("overlane is ready")
	if _, err := systemd.SdNotify(false, systemd.SdNotifyReady); err != nil {
		log.WithError(err).Warn("the service manager was not told that overlane is ready")
	}

	following, unfollow := context.WithCancel(ctx)
	var follower sync.WaitGroup
	follower.Go(func() { n.follow(following, s.address, log) })
	stopFollowing := func() { unfollow(); follower.Wait() }
	defer stopFollowing()
	select {
	case <-ctx.Done():
		log.Info("overlane stops")
	case err = <-failed:
	case twin := <-n.cluster.Fenced():
		stopFollowing()
		refuse(twin, driver, ctl, log)
		stopMetrics()
		return errors.Join(n.close(), stay(ctx, failed))
	}
	n.tests.Close() // an answer under way waits for its test, whose endpoints are no containers
	leaves := n.leaves(context.Cause(ctx))
	stopFollowing()
	n.networks.Close() // whose engine waits for answers of the driver's
	stopDriver()
	ctl.server.Shutdown(context.WithoutCancel(ctx)) // waits for answers under way
	stopMetrics()
	stopWeb()
	return errors.Join(err, n.stop(leaves, log))
}

// How long a start waits to hear from the others whether another host has this one's identity.
const uniqueTime = time.Second

// node is all that moves packets and records.
type node struct {
	mover
	datapath *datapath.Datapath
	names    *names.Server // nil: the kernel lacks what it needs
	overlay  *overlay.Overlay
	cluster  *discovery.Cluster
	networks *networks.Manager
	tests    *connectivity.Manager
	engine   atomic.Pointer[engine.Watcher] // nil: there is none yet, or it is not to be asked
}

// startNode takes back what a previous daemon left, then goes among the others.
func startNode(s settings, log *logrus.Logger) (n *node, err error) {
	n = &node{}
	source := s.source()
	n.at.Store(&source)
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if n.datapath, err = datapath.Open(datapath.Config{CPUs: s.cpus, VTEP: s.source(), Port: s.vxlanPort, Underlay: s.underlay, NativeDir: s.nativeDir, Log: log}); err != nil {
		return n, fmt.Errorf("datapath with --vxlan-port %d on --cpus %v: %w", s.vxlanPort, s.cpus, err)
	}
	table := names.NewTable()
	server := n.openNames(table, log)
	n.overlay, err = overlay.Open(overlay.Config{
		Dir:         s.dataDir,
		VTEP:        s.vtep(),
		UnderlayMTU: func(peers []netip.Addr) (int, error) { return underlayMTU(n.address(), peers, n.datapath) },
		ReceiveMTU:  func(peers []netip.Addr) (int, error) { return receiveMTU(n.address(), peers, n.datapath) },
		InContainer: n.datapath.InContainer,
		Egress:      overlay.DockerEgress,
		Datapath:    n.datapath,
		Table:       table,
		Names:       server,
		Host:        new(hostnet.Host),
		Engine:      func() error { return n.engineError(s) },
		Version:     version(),
		Defaults:    s.defaultPools,
		Everywhere:  s.makesNetworks,
		Defined:     func(name string) *networks.Definition { return n.networks.Defined(name) },
		Static:      s.static,
		Joins:       len(s.join) > 0,
		Insecure:    s.insecure,
		Encrypt:     s.encrypt,
		Cipher:      s.cipher,
		Whole:       s.remoteCapture,
		Log:         log,
	})
	if err != nil {
		return n, err
	}
	n.networks = networks.Open(networks.Config{Dir: s.dataDir, Engine: engineNetworks(s), Ready: func() error { return n.engineError(s) }, Encrypt: s.encrypt, Encrypted: n.overlay.IsEncrypted, Log: log})
	n.tests = connectivity.Open(connectivity.Config{
		Overlay: n.overlay, Encrypt: s.encrypt, Log: log,
		Sandbox:   func() (connectivity.Sandbox, error) { return sandboxed(hostnet.NewSandbox()) },
		Container: func(path string) (connectivity.Sandbox, error) { return sandboxed(hostnet.OpenSandbox(path)) },
	})
	host, err := os.Hostname()
	if err != nil {
		return n, fmt.Errorf("host name: %w", err)
	}
	n.cluster, err = discovery.Open(discovery.Config{
		Dir:       s.dataDir,
		Host:      host,
		Bind:      netip.AddrPortFrom(s.local, s.gossipPort),
		Advertise: s.advertise,
		VTEP:      netip.AddrPortFrom(s.vtep(), s.vxlanPort),
		Whole:     true,
		Join:      s.join,
		Token:     s.token,
		Insecure:  s.insecure,
		Static:    s.static,
		Used:      n.overlay.Used,
		Log:       log,
		Observe:   n.overlay.Observe,
		Receive:   n.receive,
	})
	if token := (*discovery.TokenError)(nil); errors.As(err, &token) {
		return n, token
	}
	if err != nil {
		return n, fmt.Errorf("discovery with --gossip-port %d: %w", s.gossipPort, err)
	}
	n.packets = n.datapath.Move
	n.gossip = func(to netip.Addr) error {
		if s.translated {
			return n.cluster.Move(to, s.advertise)
		}
		return n.cluster.Move(to, to)
	}
	n.overlay.Attach(n.cluster)
	n.networks.Attach(n.cluster)
	n.tests.Attach(n.cluster)
	if twin := n.cluster.Unique(uniqueTime); twin != nil {
		return n, twin
	}
	if s.dockerSocket != "" {
		n.engine.Store(engine.Watch(engine.Config{
			Socket: s.dockerSocket, Wanted: n.overlay.Knows, Container: n.overlay.NameContainer, Network: n.overlay.NameNetwork,
			Networks: n.networks.EngineChanged, Log: log,
		}))
	}
	return n, nil
}

// sandboxed is where a test of connectivity opens its sockets.
func sandboxed(s *hostnet.Sandbox, err error) (connectivity.Sandbox, error) {
	if err != nil {
		return nil, err // and no *hostnet.Sandbox that is nil
	}
	return s, nil
}

// underlayMTU is what both the kernel and the underlay's device carry: either may send a packet.
func underlayMTU(vtep netip.Addr, peers []netip.Addr, d *datapath.Datapath) (int, error) {
	mtu, err := overlay.UnderlayMTU(vtep, peers)
	return limited(mtu, d), err
}

// receiveMTU is likewise what both receive.
func receiveMTU(vtep netip.Addr, peers []netip.Addr, d *datapath.Datapath) (int, error) {
	mtu, err := overlay.ReceiveMTU(vtep, peers)
	return limited(mtu, d), err
}

func limited(mtu int, d *datapath.Datapath) int {
	if limit := d.UnderlayMTU(); limit > 0 {
		return min(mtu, limit)
	}
	return mtu
}
