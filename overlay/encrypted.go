package overlay

import (
	"errors"
	"fmt"
)

// Which networks are encrypted. Whether one is, is settled when it is made, and stays so: the hosts that have it must agree.

// errOpenCluster is why a host encrypts nothing, and the way out.
var errOpenCluster = errors.New("the cluster is open to everybody (--insecure), so that anybody would get its keys: stop overlane on all hosts, and start it with --token in place of --insecure (`overlane token new` makes one), or make the network without encryption")

// IsEncrypted says whether a network of this host is encrypted, by Docker's ID.
func (o *Overlay) IsEncrypted(id string) bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	n := o.networks[id]
	return n != nil && n.Encrypted
}

// encrypts says whether a network with these options is encrypted that is made here.
func (o *Overlay) encrypts(opts options) (bool, error) {
	switch encrypted := opts.encrypted || o.cfg.Encrypt; {
	case opts.plain && o.cfg.Encrypt:
		return false, networkOptions.bad(OptionEncrypted, "false", "each network that is made on this host is encrypted: leave it out, or start the daemon without --encrypt (OVERLANE_ENCRYPT)")
	case encrypted && o.cfg.Insecure:
		return false, fmt.Errorf("option %s: %w", OptionEncrypted, errOpenCluster)
	default:
		return encrypted, nil
	}
}

// encryptsMade says whether a network is encrypted that is made for this host's attachment: it is as those hosts have it that take part. Where none
// is known to, the operator's word counts.
func (o *Overlay) encryptsMade(w wanted, opts options) (bool, error) {
	key, hosts := w.key, map[bool]string{}
	for _, s := range o.cluster.Subscribers(key) {
		hosts[s.Network.Encrypted] = s.Host
	}
	plainOn, plain := hosts[false]
	encryptedOn, encrypted := hosts[true]
	switch {
	case plain && encrypted:
		return false, fmt.Errorf("network %s: it is encrypted on host %s, and plain on host %s: make it anew on one of them first", key, encryptedOn, plainOn)
	case plain && (opts.encrypted || o.cfg.Encrypt):
		return false, fmt.Errorf("network %s: it is plain on host %s, and to be encrypted here: make it anew there with -o %s", key, plainOn, OptionEncrypted)
	case plain:
		return false, nil
	case encrypted && w.defined && !opts.encrypted:
		return false, fmt.Errorf("network %s: it is defined plain for all hosts, and encrypted on host %s: make it anew there without -o %s", key, encryptedOn, OptionEncrypted)
	case encrypted:
		return o.encrypts(options{encrypted: true})
	}
	return o.encrypts(opts)
}

func protection(encrypted bool) string {
	if encrypted {
		return "encrypted"
	}
	return "plain"
}

func withOrWithout(encrypted bool) string {
	if encrypted {
		return "with"
	}
	return "without"
}
