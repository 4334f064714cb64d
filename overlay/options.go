package overlay

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/overlane/overlane/datapath"
	"github.com/overlane/overlane/networks"
)

// The options of `docker network create -o`.
const (
	OptionVNI     = "vni"                           // VXLAN network identifier, 1 to 16777215
	OptionNetwork = "network"                       // name on which the hosts agree; the VNI is derived from it
	OptionMTU     = "com.docker.network.driver.mtu" // of the containers' interfaces, bytes of IP packet
	OptionAll     = networks.Option                 // true: on all hosts
	OptionTrust   = "trust"                         // none, address or mac; of an endpoint by --driver-opt as well
	OptionPort    = "port"                          // tap, vhost-user or memif; of an endpoint, as the next two
	OptionSocket  = "socket"                        // name of the directory with a native port's socket
	OptionOwner   = "owner"                         // of that directory: UID or UID:GID; 0:0 if not given

	OptionEncrypted = networks.OptionEncrypted // empty or true: packets between hosts are encrypted; false: they are not
)

// optionSet is what may be given at one place.
type optionSet struct {
	flag  string // of `docker network create`, without dashes
	known []string
}

var (
	networkOptions  = optionSet{"option", []string{OptionVNI, OptionNetwork, OptionMTU, OptionTrust, OptionAll, OptionEncrypted}}
	poolOptions     = optionSet{"ipam-opt", []string{OptionNetwork, OptionVNI}}
	endpointOptions = optionSet{"driver-opt", []string{OptionTrust, OptionPort, OptionSocket, OptionOwner}}
)

// libnetwork reads these itself, whatever the driver, and passes them on.
var dockerOptions = []string{
	"com.docker.network.enable_ipv4",
	"com.docker.network.enable_ipv6",
	"com.docker.network.internal",
	"com.docker.network.advertise_addr_nmsgs",
	"com.docker.network.advertise_addr_ms",
}

// Smallest MTUs with which the protocols work: RFC 791 and RFC 8200 section 5. The largest keeps a frame and its
// VXLAN headers within an IP packet.
const (
	minMTU4 = 68
	minMTU6 = 1280
	maxMTU  = datapath.MaxMTU
)

// A network's name is held to the form of Docker's own names.
var networkName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// options are the checked options of a network. Zero: not given.
type options struct {
	vni   uint32
	name  string
	mtu   int
	trust Trust
	all   bool // on all hosts

	encrypted, plain bool // asked for

	port, socket string
	owner        string
}

func (set optionSet) parse(given map[string]string) (options, error) {
	var opts options
	for _, name := range slices.Sorted(maps.Keys(given)) {
		value := given[name]
		switch {
		case slices.Contains(dockerOptions, name):
		case !slices.Contains(set.known, name):
			return options{}, set.bad(name, value, "unknown option")
		case name == OptionVNI:
			vni, err := strconv.ParseUint(value, 10, 32)
			if err != nil || vni == 0 || vni > datapath.MaxVNI {
				return options{}, set.bad(name, value, "want a number from 1 to %d", datapath.MaxVNI)
			}
			opts.vni = uint32(vni)
		case name == OptionNetwork:
			if !networkName.MatchString(value) {
				return options{}, set.bad(name, value, "want 1 to 128 letters, digits, '_', '.' or '-', the first a letter or digit")
			}
			opts.name = value
		case name == OptionMTU:
			mtu, err := strconv.Atoi(value)
			if err != nil || mtu < minMTU4 || mtu > maxMTU {
				return options{}, set.bad(name, value, "want a number of bytes from %d to %d", minMTU4, maxMTU)
			}
			opts.mtu = mtu
		case name == OptionTrust:
			opts.trust = Trust(value)
			if _, known := trustLevels[opts.trust]; !known {
				return options{}, set.bad(name, value, "want %s, %s or %s", TrustNone, TrustAddress, TrustMAC)
			}
		case name == OptionAll:
			if value != "true" {
				return options{}, set.bad(name, value, "want true, or leave it out")
			}
			opts.all = true
		case name == OptionEncrypted:
			if value != "" && value != "true" && value != "false" {
				return options{}, set.bad(name, value, "want true, which it is without a value, or false")
			}
			opts.encrypted, opts.plain = value != "false", value == "false"
		case name == OptionPort:
			if value != datapath.KindTap && value != datapath.KindVhost && value != datapath.KindMemif {
				return options{}, set.bad(name, value, "want %s, %s or %s", datapath.KindTap, datapath.KindVhost, datapath.KindMemif)
			}
			opts.port = value
		case name == OptionSocket:
			opts.socket = value
		case name == OptionOwner:
			opts.owner = value
		}
	}
	if opts.vni != 0 && opts.name != "" {
		return options{}, set.bad(OptionVNI, given[OptionVNI], "can't be given together with %s=%q: the name decides the VNI", OptionNetwork, opts.name)
	}
	return opts, nil
}

func (set optionSet) bad(name, value, format string, args ...any) error {
	return fmt.Errorf("%s %s=%q: %s (known options: %s)", set.flag, name, value, fmt.Sprintf(format, args...), strings.Join(set.known, ", "))
}

// keyWith is key, unless the pools have a key of their own: then the two must not differ.
func (opts options) keyWith(pooled string, pools []netip.Prefix) (string, error) {
	key, err := opts.key(pools)
	switch {
	case pooled == "" || pooled == key:
		return key, err
	case opts.vni != 0 || opts.name != "":
		return "", fmt.Errorf("the network is %s by -o, and %s by --ipam-opt: give the same to both, or leave one out", key, pooled)
	}
	return pooled, nil
}

// key is what the hosts agree on a network by.
func (opts options) key(pools []netip.Prefix) (string, error) {
	switch {
	case opts.vni != 0:
		return fmt.Sprintf("vni=%d", opts.vni), nil
	case opts.name != "":
		return "network=" + opts.name, nil
	}
	// IPv4 before IPv6, so that every host chooses the same pool.
	for _, v4 := range []bool{true, false} {
		for _, pool := range pools {
			if pool.Addr().Is4() == v4 && pool.Bits() > 0 {
				return "subnet=" + pool.Masked().String(), nil
			}
		}
	}
	return "", fmt.Errorf("the network has no subnet for the hosts to agree on: give --subnet, -o %s=NUMBER or -o %s=NAME", OptionVNI, OptionNetwork)
}
