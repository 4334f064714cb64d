//go:build lab && soak

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Of many containers, started at once on all hosts, each host's first finds all, and an alias of them all. What comes late is found
// everywhere soon, what is removed nowhere, and after a cut that hosts took for death all is as before; those of a host that died are found nowhere.
func TestNamesOfManyContainers(t *testing.T) {
	const each = 66
	c := cluster(t)
	pooled(t, c.Hosts, "names", "10.63.0.0/23")
	var starts []*Container
	at := map[string]netip.Addr{}
	all, addrs := startNamed(t, c.Hosts, "names", each)
	for i, container := range all {
		at[container.Name] = addrs[i]
	}
	for _, h := range c.Hosts {
		for _, container := range all {
			if container.Host == h {
				starts = append(starts, container)
				break
			}
		}
	}
	for _, from := range starts {
		eventually(t, from.Host.Name+" finds all", settleTimeout, func() error { return findsAll(t, from, at) })
	}

	late, lateAt := start(t, c.Hosts[0], "late", "names")
	began := time.Now()
	for _, from := range starts {
		called(t, from, "late", lateAt.IPAddress)
	}
	t.Logf("a container is found everywhere %v after `docker run`", time.Since(began))
	must(t, late.Remove(t.Context()))
	began = time.Now()
	for _, from := range starts {
		called(t, from, "late")
	}
	t.Logf("a container is found nowhere %v after `docker rm`", time.Since(began))

	cut := c.Hosts[2]
	shell(t, cut, "ip link set eth0 down")
	time.Sleep(30 * time.Second)
	if err := findsAll(t, starts[0], at); err == nil {
		t.Error("the host is cut off, and its containers are still found")
	}
	shell(t, cut, "ip link set eth0 up")
	began = time.Now()
	for _, from := range starts {
		eventually(t, from.Host.Name+" finds all again", settleTimeout, func() error { return findsAll(t, from, at) })
	}
	t.Logf("after a cut of 30 s all are found again in %v", time.Since(began))

	kill(t, cut)
	began = time.Now()
	for _, from := range starts[:2] {
		called(t, from, starts[2].Name)
	}
	t.Logf("those of a killed host are found nowhere after %v", time.Since(began))
}

// startNamed starts containers with names of their own on every host.
func startNamed(t *testing.T, hosts []*Host, network string, count int) (containers []*Container, addrs []netip.Addr) {
	t.Helper()
	script := func(h *Host) string {
		return fmt.Sprintf(`seq %d | xargs -P 4 -I{} docker run -d --name n%d-{} --network %s --network-alias everybody --dns 127.0.0.1 box >/dev/null
			docker inspect --format '{{.Name}} {{.NetworkSettings.Networks.%s.IPAddress}}' $(docker ps -q --filter name=n%d-)`, count, h.Number, network, network, h.Number)
	}
	for _, h := range hosts {
		out := shell(t, h, script(h))
		for line := range strings.Lines(out) {
			fields := strings.Fields(line)
			containers = append(containers, &Container{Host: h, Name: strings.TrimPrefix(fields[0], "/")})
			addrs = append(addrs, netip.MustParseAddr(fields[1]))
		}
	}
	return containers, addrs
}

// findsAll asks for every name in one go.
func findsAll(t *testing.T, from *Container, at map[string]netip.Addr) error {
	t.Helper()
	var names []string
	for name := range at {
		names = append(names, name)
	}
	out, err := from.Exec(t.Context(), "sh", "-c", "for n in "+strings.Join(names, " ")+"; do echo $n $(nslookup -type=a $n 127.0.0.11 2>/dev/null | sed -n 's/^Address: //p'); done")
	if err != nil {
		return err
	}
	wrong := 0
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) != 2 || fields[1] != at[fields[0]].String() {
			wrong++
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%s finds %d of %d names wrong or not", from.Name, wrong, len(at))
	}
	return nil
}

// The name and the alias of a container are on another host soon after Join, of which Docker tells by an event of its network, at most some
// hundred milliseconds before the container runs.
func TestNamesAreSoonEverywhere(t *testing.T) {
	const count = 100
	c := cluster(t)
	one, two := c.Hosts[0], c.Hosts[1]
	pooled(t, c.Hosts, "names", "10.63.0.0/23")
	watch, _ := start(t, two, "watch", "names", "--dns", "127.0.0.1")
	var seen, told string // times: seconds since the boot, nanoseconds since 1970
	must(t, each(c.Hosts[:2], func(h *Host) (err error) {
		if h == two {
			seen, err = watch.Exec(t.Context(), "sh", "-c", fmt.Sprintf(
				`for i in $(seq %d); do for n in soon$i alias$i; do until nslookup -type=a $n 127.0.0.11 2>/dev/null | grep -q '^Address: 10'; do :; done; cut -d' ' -f1 /proc/uptime; done; done`, count))
			return err
		}
		told, err = one.Exec(t.Context(), "sh", "-ec", fmt.Sprintf(
			`docker events --since $(date +%%s) --filter type=network --filter event=connect --format '{{.TimeNano}}' >/tmp/joined & events=$!
			for i in $(seq %[1]d); do docker run -d --name soon$i --network names --network-alias alias$i box >/dev/null; done
			until [ $(wc -l </tmp/joined) = %[1]d ]; do sleep 0.1; done
			kill $events; cat /tmp/joined; docker ps -q | xargs docker rm -f >/dev/null`, count))
		return err
	}))
	joined, found := strings.Fields(told), strings.Fields(seen)
	if len(joined) != count || len(found) != 2*count {
		t.Fatalf("%d containers joined, %d names were found, want %d and %d", len(joined), len(found), count, 2*count)
	}
	up, err := strconv.ParseFloat(strings.Fields(shell(t, two, "cat /proc/uptime"))[0], 64)
	must(t, err)
	booted := time.Now().Add(-time.Duration(up * float64(time.Second)))
	for which, kind := range []string{"name", "alias"} {
		var delays []time.Duration
		for i := range joined {
			from, err1 := strconv.ParseInt(joined[i], 10, 64)
			after, err2 := strconv.ParseFloat(found[2*i+which], 64)
			must(t, errors.Join(err1, err2))
			delays = append(delays, booted.Add(time.Duration(after*float64(time.Second))).Sub(time.Unix(0, from)))
		}
		slices.Sort(delays)
		t.Logf("the %s after Join: median %v, 90 of 100 %v, p99 %v, longest %v", kind, delays[count/2], delays[count*90/100-1], delays[count*99/100-1], delays[count-1])
		if longest := delays[count-1]; longest > 10*time.Second {
			t.Errorf("the %s was there after %v", kind, longest)
		}
	}
}
