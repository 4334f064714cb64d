package check

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/internal/hostaddr"
)

const (
	dialTime    = 2 * time.Second
	refusalTime = 500 * time.Millisecond // that a host's word that it takes no such packet may be under way
)

// Gossip opens a connection to where a peer gossips; own is what this host advertises. It takes two seconds at most.
func Gossip(own netip.Addr, p Peer) Result {
	r := Result{"gossip to " + p.Name, OK, fmt.Sprintf("%s takes connections", p.Gossip), ""}
	conn, err := net.DialTimeout("tcp", p.Gossip.String(), dialTime)
	if err != nil {
		r.State, r.Seen = Fail, err.Error()
		switch {
		case errors.Is(err, unix.ECONNREFUSED):
			r.Cure = fmt.Sprintf("start overlane there: nothing listens, or its firewall refuses TCP and UDP port %d", p.Gossip.Port())
		case os.IsTimeout(err):
			r.Cure = fmt.Sprintf("open TCP and UDP port %d between the hosts, if that one is up: no answer of any kind comes", p.Gossip.Port())
		default:
			r.Cure = fmt.Sprintf("start overlane there, and open TCP and UDP port %d between the hosts", p.Gossip.Port())
		}
		if misplaced := hostaddr.Misplaced(own, p.Gossip.Addr()); misplaced != "" {
			r.Cure = misplaced + "; else " + r.Cure
		}
		return r
	}
	conn.Close()
	return r
}

// vxlan sends each peer an empty datagram where it takes VXLAN, which overlane drops there, and waits for refusals. Silence
// says little: nothing answers VXLAN.
func vxlan(c Config) []Result {
	conns := make([]net.Conn, len(c.Peers))
	errs := make([]error, len(c.Peers))
	for i, p := range c.Peers {
		if conns[i], errs[i] = dialFrom(c.VTEP, p.VTEP); errs[i] == nil {
			defer conns[i].Close()
			_, errs[i] = conns[i].Write(nil)
		}
	}
	time.Sleep(refusalTime)
	results := make([]Result, len(c.Peers))
	for i, p := range c.Peers {
		if errs[i] == nil {
			conns[i].SetReadDeadline(time.Now().Add(time.Millisecond)) // what was refused is known by now
			_, errs[i] = conns[i].Read(make([]byte, 1))
		}
		results[i] = answerTo(p, errs[i])
	}
	return append(results, translations(c)...)
}

func answerTo(p Peer, err error) Result {
	name := "VXLAN to " + p.Name
	switch {
	case err == nil:
		return Result{name, Fail, fmt.Sprintf("a program that is not overlane answers on %s", p.VTEP), "end that program there, or give overlane there another --vxlan-port"}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Result{name, OK, fmt.Sprintf("nothing refuses it on %s; a firewall on the way that drops in silence can't be told from here", p.VTEP), ""}
	case errors.Is(err, unix.EPERM):
		return Result{name, Fail, "this host's firewall drops it", fmt.Sprintf("let it pass UDP to %s", p.VTEP)}
	case errors.Is(err, unix.ECONNREFUSED):
		return Result{name, Fail, fmt.Sprintf("%s says that nothing there takes UDP port %d, or its firewall does", p.VTEP.Addr(), p.VTEP.Port()), "start overlane there, and open that port"}
	}
	return Result{name, Fail, err.Error(), fmt.Sprintf("give this host a route to %s", p.VTEP.Addr())}
}
