//go:build lab

package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// addressesOf asks for a name as a program in the container does, of Docker's server.
func addressesOf(t *testing.T, c *Container, name string) []netip.Addr {
	t.Helper()
	out, err := c.Exec(t.Context(), "sh", "-c", fmt.Sprintf("nslookup -type=a %s 127.0.0.11 2>&1 || :", name))
	must(t, err)
	var addrs []netip.Addr
	_, answers, _ := strings.Cut(out, "\n\n")
	for line := range strings.Lines(answers) {
		text, is := strings.CutPrefix(strings.TrimSpace(line), "Address: ")
		if addr, err := netip.ParseAddr(text); is && err == nil {
			addrs = append(addrs, addr)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs
}

// called waits until a name leads to addresses, none of them meaning that it leads nowhere.
func called(t *testing.T, from *Container, name string, want ...netip.Addr) {
	t.Helper()
	slices.SortFunc(want, netip.Addr.Compare)
	eventually(t, fmt.Sprintf("%s on %s finds %s", from.Name, from.Host.Name, name), settleTimeout, func() error {
		if got := addressesOf(t, from, name); !slices.Equal(got, want) {
			return fmt.Errorf("at %v, not at %v", got, want)
		}
		return nil
	})
}

// Containers find each other by name over hosts, and only on the networks that both are on; also those that joined while they ran,
// and under new names. Without the daemon Docker's own server goes on.
func TestNames(t *testing.T) {
	c := cluster(t)
	one, two := c.Hosts[0], c.Hosts[1]
	shells(t, c.Hosts[:2], func(h *Host) string {
		return "docker network create -d overlane --ipam-driver overlane --subnet 10.61.0.0/24 names; docker network create -d overlane --ipam-driver overlane --internal --subnet 10.62.0.0/24 secret"
	})
	// Nobody is at the upstream server, so that Docker's says at once that it knows no name.
	db, dbAt := start(t, one, "db", "names", "--network-alias", "store", "--hostname", "machine", "--dns", "127.0.0.1")
	web, webAt := start(t, two, "web", "names", "--network-alias", "store", "--dns", "127.0.0.1")
	hidden, hiddenAt := start(t, two, "hidden", "secret", "--dns", "127.0.0.1")

	called(t, web, "db", dbAt.IPAddress)
	called(t, db, "web", webAt.IPAddress)
	called(t, db, "store", dbAt.IPAddress, webAt.IPAddress)
	called(t, web, "store.names", dbAt.IPAddress, webAt.IPAddress)
	id, err := one.Docker(t.Context(), "inspect", "--format", "{{slice .Id 0 12}}", "db")
	must(t, err)
	called(t, web, id, dbAt.IPAddress)
	called(t, web, "machine", dbAt.IPAddress) // Docker makes the host name an alias
	eventually(t, "http://db/ from web", settleTimeout, func() error {
		page, err := web.Exec(t.Context(), "curl", "-sS", "--max-time", "5", "http://db/")
		if err == nil && page != "machine" {
			err = fmt.Errorf("it is %q", page)
		}
		return err
	})

	called(t, web, "hidden")
	called(t, hidden, "db")
	called(t, hidden, "web")
	_, err = one.Docker(t.Context(), "network", "connect", "--alias", "late", "secret", "db")
	must(t, err)
	called(t, db, "hidden", hiddenAt.IPAddress)
	called(t, hidden, "late", attachment(t, db, "secret").IPAddress)
	called(t, web, "late")
	_, err = one.Docker(t.Context(), "network", "disconnect", "secret", "db")
	must(t, err)
	called(t, hidden, "late")
	called(t, db, "hidden")

	_, err = one.Docker(t.Context(), "rename", "db", "database")
	must(t, err)
	db.Name = "database"
	called(t, web, "database", dbAt.IPAddress)
	called(t, web, "db")
	if out := shell(t, two, "overlane resolve store -n names"); !strings.Contains(out, "database") || !strings.Contains(out, one.hostname(t)) {
		t.Errorf("overlane resolve store:\n%s", out)
	}

	shell(t, two, "pkill -9 -x overlane")
	called(t, web, "database")
	called(t, web, "web", webAt.IPAddress) // by Docker's server
	shell(t, two, "start-overlane")
	ready(t, c.Hosts[1:2])
	called(t, web, "database", dbAt.IPAddress)
	called(t, db, "web", webAt.IPAddress)

	must(t, db.Remove(t.Context()))
	called(t, web, "database")
	called(t, web, "store", webAt.IPAddress)
}

func (h *Host) hostname(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(shell(t, h, "hostname"))
}
