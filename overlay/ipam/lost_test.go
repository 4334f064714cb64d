package ipam

import (
	"errors"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"
)

// works demands that a text names a command that takes addresses, and that it takes so many.
func works(t *testing.T, c *core, p *pool, text string, want uint64) {
	t.Helper()
	command := regexp.MustCompile("run `overlane ipam reclaim ([^`]+)`").FindStringSubmatch(text)
	if command == nil {
		t.Fatalf("%q names no command", text)
	}
	lost, err := c.lostOnes(strings.Fields(command[1]))
	if err != nil {
		t.Fatalf("%s: %v", command[0], err)
	}
	takes(t, c, p, want, lost)
}

// takes demands that a reclaim takes so many addresses, once all others agree.
func takes(t *testing.T, c *core, p *pool, want uint64, lost []string) {
	t.Helper()
	var taken uint64
	refused := c.outcome(func(done func(error)) {
		c.reclaim(lost, func(n uint64, err error) {
			taken = n
			done(err)
		})
		for _, id := range c.order {
			says(c, p, id, p.hash)
		}
	})
	if taken != want {
		t.Errorf("%d addresses of %v were taken, want %d; refused: %s", taken, lost, want, refused)
	}
}

// replaced is a host that was set up anew twice: two old identities, which are down, and one that is up are called web.
func replaced() (*core, *pool) {
	c, p := testCore("a.1", "b.1", "c.1", "d.1")
	c.meet(map[string]string{"b": "web"}, map[string]string{"c": "web"})
	p.Names = map[string]string{"d": "web"} // discovery has forgotten it
	c.away = map[string]absence{"c": {since: time.Date(2026, 11, 28, 10, 2, 11, 0, time.Local)}}
	c.step(c.now.Add(helloPatience), nil)
	says(c, p, "b", p.hash)
	return c, p
}

func TestWhichOfSeveralIsLost(t *testing.T) {
	c, p := replaced()
	_, err := c.find("web")
	want := `node "web": several are called so: web (b, up), web (c, down, last seen 2026-11-28 10:02:11), web (d, down, last seen more than a day ago): ` +
		"if c, d are lost for good, all of them, run `overlane ipam reclaim c d`"
	if err == nil || err.Error() != want {
		t.Fatalf("%v, want %q", err, want)
	}
	works(t, c, p, err.Error(), 20)
}

// One of them alone is not enough, and the error says what is.
func TestWhoElseIsToBeNamed(t *testing.T) {
	c, p := replaced()
	_, err, _ := reclaims(c, 8, "c")
	if err == nil {
		t.Fatal("reclaimed, though another is down")
	}
	works(t, c, p, err.Error(), 20)
}

func TestPoolFullOfReplacedHosts(t *testing.T) {
	c, p := replaced()
	given(1, 20, "c.1")(c, p)
	says(c, p, "b", p.hash)
	refused := c.outcome(func(done func(error)) {
		c.request(p.id, Request{MAC: "02:00:00:00:00:01"}, func(_ netip.Addr, err error) { done(err) })
	})
	works(t, c, p, refused, 40)
}

func TestAllThatAreDown(t *testing.T) {
	c, p := replaced()
	lost, err := c.lostOnes(nil)
	if err != nil {
		t.Fatal(err)
	}
	takes(t, c, p, 20, lost)
	c.meet(map[string]string{"b": "web"}, nil)
	if lost, err := c.lostOnes(nil); len(lost) > 0 || err != nil {
		t.Errorf("nobody is down any more: %v, %v", lost, err)
	}
}

// Who may be the one that is cut off takes nothing from all others at a single word: they are to be named.
func TestNotAllThatAreDownByWhoMayBeCutOff(t *testing.T) {
	for name, cutOff := range map[string]func(*core){
		"nobody else is up": func(c *core) { c.meet(nil, map[string]string{"b": "web", "c": "web"}) },
		"many went down":    func(c *core) { c.away["c"] = absence{c.now, true} },
	} {
		t.Run(name, func(t *testing.T) {
			c, p := replaced()
			cutOff(c)
			_, err := c.lostOnes(nil)
			if err == nil || !strings.Contains(err.Error(), "--down: this host may be the one that is cut off, as so many are down: ") {
				t.Fatalf("%v", err)
			}
			works(t, c, p, err.Error(), uint64(10*(len(p.Table.owners())-1-len(c.order))))
		})
	}
}

func TestNobodyIsCalledSo(t *testing.T) {
	c, _ := replaced()
	_, err := c.find("db")
	if want := errors.New(`node "db": owns no addresses: those that do are a (a, up), web (b, up), web (c, down, last seen 2026-11-28 10:02:11), web (d, down, last seen more than a day ago)`); err == nil || err.Error() != want.Error() {
		t.Errorf("%v, want %v", err, want)
	}
}
