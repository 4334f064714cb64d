package names

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/overlane/overlane/internal/testns"
)

const app, other = "network=app", "network=other"

// container is a network namespace with Docker's server in it, as libnetwork sets it up (resolver_unix.go): at a port that the kernel
// chose, to which port 53 is redirected.
type container struct {
	t      *testing.T
	path   string
	host   string // the path of the namespace that the test came from
	server *Server
	table  *Table
	docker []*dns.Server
}

// newContainer moves the test into the container's namespace.
func newContainer(t *testing.T) *container {
	t.Helper()
	table := NewTable()
	log := logrus.New()
	log.SetOutput(io.Discard)
	s, err := NewServer(table, log)
	must(t, err)
	host, err := os.Open("/proc/thread-self/ns/net")
	must(t, err)
	t.Cleanup(func() { host.Close() })
	testns.Enter(t)
	c := &container{t: t, host: fmt.Sprintf("/proc/self/fd/%d", host.Fd()), path: fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid()), server: s, table: table}
	t.Cleanup(func() { s.Close() })
	c.startDocker()
	return c
}

// startDocker starts the server that knows "docker.test." alone, and says nothing of "silent.test.".
func (c *container) startDocker() {
	c.t.Helper()
	udp, err := net.ListenPacket("udp4", "127.0.0.11:0")
	must(c.t, err)
	tcp, err := net.Listen("tcp4", "127.0.0.11:0")
	must(c.t, err)
	c.docker = []*dns.Server{
		{PacketConn: udp, Handler: dns.HandlerFunc(dockerAnswers)},
		{Listener: tcp, Handler: dns.HandlerFunc(dockerAnswers)},
	}
	for _, server := range c.docker {
		go server.ActivateAndServe()
		c.t.Cleanup(func() { server.Shutdown() })
	}
	testns.Run(c.t, `iptables -w -t nat -F`)
	for proto, addr := range map[string]net.Addr{"udp": udp.LocalAddr(), "tcp": tcp.Addr()} {
		port := netip.MustParseAddrPort(addr.String()).Port()
		testns.Run(c.t,
			fmt.Sprintf("iptables -w -t nat -A OUTPUT -d 127.0.0.11 -p %s --dport 53 -j DNAT --to-destination %s", proto, addr),
			fmt.Sprintf("iptables -w -t nat -A POSTROUTING -s 127.0.0.11 -p %s --sport %d -j SNAT --to-source :53", proto, port))
	}
}

func dockerAnswers(w dns.ResponseWriter, q *dns.Msg) {
	a := new(dns.Msg).SetReply(q)
	switch name := q.Question[0].Name; {
	case name == "docker.test.":
		a.Answer = append(a.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 600}, Txt: []string{"by Docker"}})
	case name == "silent.test.":
		return
	default:
		a.Rcode = dns.RcodeNameError
		a.Ns = append(a.Ns, &dns.SOA{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 86400}, Ns: "a.", Mbox: "b."})
	}
	w.WriteMsg(a)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ask asks 127.0.0.11 as the container does, by udp or tcp.
func (c *container) ask(proto, name string, rtype uint16) (*dns.Msg, error) {
	client := dns.Client{Net: proto + "4", Timeout: 10 * time.Second}
	answer, _, err := client.Exchange(new(dns.Msg).SetQuestion(name, rtype), "127.0.0.11:53")
	return answer, err
}

// wants asks by UDP and TCP, and compares the answer's records, sorted, as "TYPE VALUE"; or "NXDOMAIN" and the like.
func (c *container) wants(name string, rtype uint16, want ...string) {
	c.t.Helper()
	for _, proto := range []string{"udp", "tcp"} {
		answer, err := c.ask(proto, name, rtype)
		must(c.t, err)
		if got := summary(answer); !slices.Equal(got, want) {
			c.t.Errorf("%s %s by %s: %q, want %q", name, dns.TypeToString[rtype], proto, got, want)
		}
	}
}

func summary(m *dns.Msg) []string {
	all := []string{}
	for _, rr := range m.Answer {
		all = append(all, dns.TypeToString[rr.Header().Rrtype]+" "+strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	if m.Rcode != dns.RcodeSuccess {
		all = append(all, dns.RcodeToString[m.Rcode])
	}
	slices.Sort(all)
	return all
}

// has puts a container of a host into the table; host 1 is this one.
func (c *container) has(network string, host, number byte, names []string, addrs ...string) {
	id := ID{MAC: [6]byte{2, number}}
	if host > 1 {
		id.VTEP = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, host}), 4789)
	}
	c.table.Name(network, id, names)
	for _, addr := range addrs {
		c.table.Address(network, netip.MustParseAddr(addr), id)
	}
}

func TestContainerAsks(t *testing.T) {
	c := newContainer(t)
	c.has(app, 1, 1, []string{"Db", "store"}, "10.20.0.2", "fd00:20::2")
	c.has(app, 2, 2, []string{"db2", "store"}, "10.20.0.3")
	c.has(other, 2, 3, []string{"secret", "store"}, "10.30.0.2")
	c.table.Call(app, "App")
	c.wants("db.", dns.TypeA, "NXDOMAIN") // Docker's server: ours is not there yet

	must(t, c.server.Serve(c.path, app))
	c.wants("db.", dns.TypeA, "A 10.20.0.2")
	c.wants("dB.aPP.", dns.TypeAAAA, "AAAA fd00:20::2")
	c.wants("db2.", dns.TypeAAAA)
	c.wants("db2.", dns.TypeMX)
	c.wants("store.", dns.TypeA, "A 10.20.0.2", "A 10.20.0.3")
	c.wants("2.0.20.10.in-addr.arpa.", dns.TypePTR, "PTR Db.app.")
	c.wants("2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.0.d.f.ip6.arpa.", dns.TypePTR, "PTR Db.app.")
	c.wants("docker.test.", dns.TypeTXT, `TXT "by Docker"`)
	c.wants("secret.", dns.TypeA, "NXDOMAIN")
	for name, lasting := range map[string]bool{"secret.": false, "secret.app.": false, "secret.example.org.": true} {
		if answer, err := c.ask("udp", name, dns.TypeA); err != nil || (len(answer.Ns) > 0) != lasting {
			t.Errorf("%s: what says how long it is unknown: %v (%v)", name, answer, err)
		}
	}
	c.wants("2.0.30.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN")

	must(t, c.server.Serve(c.path, other))
	c.wants("secret.", dns.TypeA, "A 10.30.0.2")
	c.server.Release(c.path, other)
	c.wants("secret.", dns.TypeA, "NXDOMAIN")

	c.server.Release(c.path, app)
	c.wants("db.", dns.TypeA, "NXDOMAIN")
	if s := c.server.Status(); s.Containers != 0 || len(s.Failed) != 0 {
		t.Errorf("after the last network: %+v", s)
	}
}

// An engine that restarts while its containers run starts its server anew, at another port.
func TestDockerRestarts(t *testing.T) {
	c := newContainer(t)
	c.has(app, 1, 1, []string{"db"}, "10.20.0.2")
	must(t, c.server.Serve(c.path, app))
	c.wants("db.", dns.TypeA, "A 10.20.0.2")
	for _, server := range c.docker {
		must(t, server.Shutdown())
	}
	c.startDocker()
	eventually(t, func() error {
		_, err := c.ask("udp", "db.", dns.TypeA)
		return err
	})
	c.wants("db.", dns.TypeA, "A 10.20.0.2")
	c.wants("docker.test.", dns.TypeTXT, `TXT "by Docker"`)
}

func eventually(t *testing.T, so func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = so(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// Nothing is left behind: Docker's server has the queries again.
func TestDaemonDies(t *testing.T) {
	c := newContainer(t)
	c.has(app, 1, 1, []string{"db"}, "10.20.0.2")
	must(t, c.server.Serve(c.path, app))
	c.wants("db.", dns.TypeA, "A 10.20.0.2")
	must(t, c.server.Close())
	c.wants("db.", dns.TypeA, "NXDOMAIN")
	c.wants("docker.test.", dns.TypeTXT, `TXT "by Docker"`)
}

func TestTry(t *testing.T) {
	must(t, Try())
}

// Many containers with one alias: what does not fit is asked for again by TCP, unless the asker takes more.
func TestLongAnswers(t *testing.T) {
	c := newContainer(t)
	for i := range byte(100) {
		c.has(app, 1, i, []string{"many"}, netip.AddrFrom4([4]byte{10, 20, 1, i}).String())
	}
	must(t, c.server.Serve(c.path, app))
	answer, err := c.ask("udp", "many.", dns.TypeA)
	must(t, err)
	answer.Compress = true
	if !answer.Truncated || answer.Len() > dns.MinMsgSize {
		t.Errorf("by UDP: truncated %v, %d bytes", answer.Truncated, answer.Len())
	}
	if answer, err = c.ask("tcp", "many.", dns.TypeA); err != nil || len(answer.Answer) != 100 || answer.Truncated {
		t.Errorf("by TCP: %v, %v", answer, err)
	}
	query := new(dns.Msg).SetQuestion("many.", dns.TypeA)
	query.SetEdns0(4096, false)
	if answer, err = dns.Exchange(query, "127.0.0.11:53"); err != nil || len(answer.Answer) != 100 || answer.IsEdns0() == nil {
		t.Errorf("by UDP with EDNS: %v, %v", answer, err)
	}
}
