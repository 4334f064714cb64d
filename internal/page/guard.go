package page

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// minPassword is what can't be guessed at the rate at which tries are let through.
	minPassword = 12
	// Wrong passwords from an address that are looked at: so many at once, then one in so long.
	triesAtOnce   = 10
	triesInterval = time.Second
	// maxGuessers is how many addresses are remembered that gave wrong ones.
	maxGuessers = 1024
	// From addresses that have used theirs up so many more are looked at in a second, of all together: who knows the password is not
	// to be kept out by a neighbour behind the same proxy who gives an old one. For guessing that is harmless: of 12 random hexadecimal
	// digits, the weakest that are likely, so many a second try one in 100,000 in two years.
	spareTries = 50
)

// Password is what lets clients in.
type Password struct {
	digest   [sha256.Size]byte
	mu       sync.Mutex
	guessers map[netip.Prefix]*rate.Limiter
	spare    *rate.Limiter // of wrong ones from guessers that have used theirs up
}

// NewPassword takes a text of enough characters.
func NewPassword(text string) (*Password, error) {
	if len(text) < minPassword {
		return nil, fmt.Errorf("a password of %d characters can be guessed", len(text))
	}
	return &Password{
		digest:   sha256.Sum256([]byte(text)),
		guessers: map[netip.Prefix]*rate.Limiter{},
		spare:    rate.NewLimiter(spareTries, spareTries),
	}, nil
}

// ReadPassword takes the first line of a file that not everybody on this host may read.
func ReadPassword(path string) (*Password, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("can't read the file: %w", errors.Unwrap(err))
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("everybody on this host may read the file, or write it (mode %04o): run chmod o= on it", info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("can't read the file: %w", errors.Unwrap(err))
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return NewPassword(strings.TrimSpace(line))
}

// given is the password of a request: by HTTP basic authentication (RFC 7617) of any user, or as a bearer token (RFC 6750).
func given(r *http.Request) (string, bool) {
	if _, text, ok := r.BasicAuth(); ok {
		return text, true
	}
	return strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
}

// lets says by a status of HTTP whether the client is let in. The comparison takes the same time for all passwords. Where wrong ones
// come too fast the right one is not looked at either: else guesses would be free.
func (p *Password) lets(r *http.Request) int {
	text, ok := given(r)
	if !ok {
		return http.StatusUnauthorized
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	from := network(r.RemoteAddr)
	tries, refusal := p.guessers[from], http.StatusUnauthorized
	if tries != nil && tries.Tokens() < 1 {
		tries, refusal = p.spare, http.StatusTooManyRequests
	}
	if tries != nil && tries.Tokens() < 1 {
		return refusal
	}
	digest := sha256.Sum256([]byte(text))
	if subtle.ConstantTimeCompare(digest[:], p.digest[:]) == 1 {
		return http.StatusOK
	}
	if tries == nil {
		tries = p.remember(from)
	}
	tries.Allow()
	return refusal
}

// remember gives the tries of an address that gave a wrong password for the first time. It is called with the lock held.
func (p *Password) remember(from netip.Prefix) *rate.Limiter {
	if len(p.guessers) == maxGuessers {
		clear(p.guessers)
	}
	tries := rate.NewLimiter(rate.Every(triesInterval), triesAtOnce)
	p.guessers[from] = tries
	return tries
}

// network is who a client counts as: of IPv6 a host has as many addresses as it likes.
func network(client string) netip.Prefix {
	at, _ := netip.ParseAddrPort(client)
	bits := 32
	if addr := at.Addr().Unmap(); addr.Is6() {
		bits = 64
	}
	prefix, _ := at.Addr().Unmap().WithZone("").Prefix(bits)
	return prefix
}

// policy has the browser load nothing but the page's own files, run no script that stands in the page, and show the page in no
// other one.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// guard keeps out who is not to see the page, and other sites' pages in the browser of somebody who is.
func guard(cfg Config, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if !isHere(r.Host, cfg.Host) {
			refuse(w, fmt.Sprintf("%q is not this host: ask by its address, by localhost or as %s", r.Host, cfg.Host), http.StatusMisdirectedRequest)
			return
		}
		if cfg.Password != nil {
			switch status := cfg.Password.lets(r); status {
			case http.StatusOK:
			case http.StatusUnauthorized:
				h.Set("WWW-Authenticate", `Basic realm="overlane", charset="UTF-8"`)
				refuse(w, "the password is that of --web-password-file, for any user name", status)
				return
			default:
				refuse(w, "too many wrong passwords: try again in some seconds", status)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// refuse ends the connection too: it would take the place of somebody who is let in.
func refuse(w http.ResponseWriter, why string, status int) {
	w.Header().Set("Connection", "close")
	http.Error(w, why, status)
}

// isHere says whether a request names this host by what no other site can have as its name: an address, localhost or the host's own
// name. A site whose name was made to lead here (DNS rebinding) has another one.
func isHere(asked, host string) bool {
	name := asked
	if split, _, err := net.SplitHostPort(asked); err == nil {
		name = split
	}
	name = strings.Trim(name, "[]")
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return strings.EqualFold(name, "localhost") || host != "" && strings.EqualFold(name, host)
}
