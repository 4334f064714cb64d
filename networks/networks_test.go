package networks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/overlane/overlane/engine"
)

func TestMadeOnOneIsOnAll(t *testing.T) {
	b := newBed(t, 5)
	d, err := b.hosts[0].Create("app", nil, wish("10.1.0.0/16"))
	must(t, err)
	n, err := b.hosts[0].Settle(t.Context(), d)
	must(t, err)
	b.have("app", true, b.hosts...)
	if len(n.Hosts) != 5 {
		t.Errorf("told of %v", n.Hosts)
	}
	for _, h := range b.hosts {
		if got := h.engine.called("app")[0]; got.Driver != "overlane" || got.IPAM.Driver != "overlane" || got.IPAM.Config[0].Subnet != "10.1.0.0/16" || got.Labels[Label] != d.identity() {
			t.Errorf("%s has %+v", h.Self().Host, got)
		}
	}
	d, err = b.hosts[3].Remove("app")
	must(t, err)
	_, err = b.hosts[3].Settle(t.Context(), d)
	must(t, err)
	b.have("app", false, b.hosts...)
	if left := b.hosts[1].List(t.Context(), ""); len(left) != 0 {
		t.Errorf("there is still %+v", left)
	}
}

// A network of `docker network create -o everywhere=true` is one too, and what the engine has chosen goes with it.
func TestMadeByDocker(t *testing.T) {
	b := newBed(t, 3)
	b.hosts[2].engine.call("overlane/overlane:latest")
	made := spec("")
	made.IPAM.Config, made.Labels = nil, map[string]string{"com.docker.compose.network": "app"}
	_, err := b.hosts[0].engine.Create(t.Context(), "app", made)
	must(t, err)
	b.have("app", true, b.hosts...)
	got := b.hosts[2].engine.called("app")[0]
	if got.Driver != "overlane/overlane:latest" || got.IPAM.Driver != "overlane/overlane:latest" || got.IPAM.Config[0].Gateway != "10.199.0.1" || got.Labels["com.docker.compose.network"] != "app" {
		t.Errorf("the host of a managed plugin has %+v", got)
	}
	_, err = b.hosts[1].Remove("app")
	must(t, err)
	b.have("app", false, b.hosts...)
}

// An engine that does not answer when a network is removed is asked again, and meanwhile nobody says that it is done.
func TestRemovedWhileTheEngineIsSilent(t *testing.T) {
	b := newBed(t, 2)
	_, err := b.hosts[0].Create("app", nil, wish("10.1.0.0/16"))
	must(t, err)
	b.have("app", true, b.hosts...)
	b.hosts[1].engine.answers(false)
	_, err = b.hosts[0].Remove("app")
	must(t, err)
	b.waitFor("host 1 says that its engine does not answer", func() error {
		all := b.hosts[0].List(t.Context(), "app")
		for _, n := range all {
			for _, h := range n.Hosts {
				if strings.Contains(h.Reason, "does not answer") {
					return nil
				}
			}
		}
		return fmt.Errorf("%+v", all)
	})
	b.hosts[1].engine.answers(true)
	b.have("app", false, b.hosts...)
}

// Who removes a network by Docker's command on one host gets it again: `docker network prune` on an idle host is no word for all.
func TestRemovedByDockerComesBack(t *testing.T) {
	b := newBed(t, 2)
	_, err := b.hosts[0].Create("app", nil, wish("10.1.0.0/16"))
	must(t, err)
	b.have("app", true, b.hosts...)
	for _, h := range b.hosts {
		old := h.engine.called("app")[0].ID
		must(t, h.engine.Remove(t.Context(), old))
		b.waitFor("it is made again", func() error {
			if got := h.engine.called("app"); len(got) != 1 || got[0].ID == old {
				return fmt.Errorf("there is %v", got)
			}
			return nil
		})
	}
}

func TestNetworkInUseIsRemovedLater(t *testing.T) {
	b := newBed(t, 3)
	_, err := b.hosts[0].Create("app", nil, wish("10.1.0.0/16"))
	must(t, err)
	b.have("app", true, b.hosts...)
	used := b.hosts[1].engine.called("app")[0].ID
	b.hosts[1].engine.use(used, "db", "web")
	_, err = b.hosts[2].Remove("app")
	must(t, err)
	b.have("app", false, b.hosts[0], b.hosts[2])
	b.waitFor("it is said who uses it", func() error {
		for _, n := range b.hosts[2].List(t.Context(), "app") {
			if len(n.Hosts) == 1 && n.Hosts[0].Host == "host2" && strings.Contains(n.Hosts[0].Reason, "db, web") {
				return nil
			}
		}
		return fmt.Errorf("%+v", b.hosts[2].List(t.Context(), "app"))
	})
	b.hosts[1].engine.use(used)
	b.have("app", false, b.hosts[1])
}

// A host that was off hears of what was made and removed meanwhile, though all of them have started again.
func TestHostThatWasOffCatchesUp(t *testing.T) {
	b := newBed(t, 3)
	_, err := b.hosts[0].Create("old", nil, wish("10.1.0.0/16"))
	must(t, err)
	_, err = b.hosts[2].engine.Create(t.Context(), "older", spec("10.3.0.0/16"))
	must(t, err)
	b.have("old", true, b.hosts...)
	b.have("older", true, b.hosts...)
	off := b.hosts[2]
	b.cut(off, true)
	off.Close()
	for _, name := range []string{"old", "older"} {
		d, err := b.hosts[0].Remove(name)
		must(t, err)
		b.have(name, false, b.hosts[:2]...)
		n, err := b.hosts[0].Settle(t.Context(), d)
		must(t, err)
		if i := slices.IndexFunc(n.Hosts, func(s HostState) bool { return s.ID == off.id }); i < 0 || !strings.Contains(n.Hosts[i].Reason, "is down") {
			t.Errorf("%s is removed, and the host that is down: %+v", name, n.Hosts)
		}
	}
	_, err = b.hosts[1].Create("new", nil, wish("10.2.0.0/16"))
	must(t, err)
	b.have("new", true, b.hosts[:2]...)
	for _, h := range b.hosts[:2] {
		h.Close()
	}
	for _, h := range b.hosts {
		h.start()
	}
	b.cut(off, false)
	b.have("new", true, b.hosts...)
	b.have("old", false, b.hosts...)
	b.have("older", false, b.hosts...)
}

// A network that two operators remove at once is removed for both.
func TestConcurrentRemoval(t *testing.T) {
	b := newBed(t, 2)
	_, err := b.hosts[0].Create("app", nil, wish("10.1.0.0/16"))
	must(t, err)
	b.have("app", true, b.hosts...)
	b.cut(b.hosts[1], true)
	var removals []*Definition
	for _, h := range b.hosts {
		d, err := h.Remove("app")
		must(t, err)
		removals = append(removals, d)
	}
	b.cut(b.hosts[1], false)
	for i, h := range b.hosts {
		n, err := h.Settle(t.Context(), removals[i])
		if err != nil || slices.ContainsFunc(n.Hosts, func(s HostState) bool { return s.Reason != "" }) {
			t.Errorf("host %d: %v, %+v", i, err, n.Hosts)
		}
	}
}

// Two hosts that make the same name differently end with one definition, however they made it, and the other host is told.
func TestConcurrentCreation(t *testing.T) {
	for round := range 100 {
		b := newBed(t, 4)
		byDocker := round%10 == 0
		if byDocker { // who has heard of the other's can't make it any more
			b.cut(b.hosts[0], true)
		}
		var running sync.WaitGroup
		errs := make([]error, 2)
		for i := range errs {
			running.Go(func() {
				h, subnet := b.hosts[i], fmt.Sprintf("10.%d.0.0/16", i+1)
				if byDocker {
					_, errs[i] = h.engine.Create(t.Context(), "app", spec(subnet))
					return
				}
				d, err := h.Create("app", nil, wish(subnet))
				if err == nil {
					_, err = h.Settle(t.Context(), d)
				}
				errs[i] = err
			})
		}
		running.Wait()
		if byDocker {
			must(t, errors.Join(errs...))
			for _, h := range b.hosts[:2] {
				b.waitFor("it is defined", func() error {
					if h.definition("app") == nil {
						return errors.New("it is not")
					}
					return nil
				})
			}
			b.cut(b.hosts[0], false)
		} else if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("round %d: want one to win: %v", round, errs)
		}
		subnets := map[string]bool{}
		b.waitFor("all have the same", func() error {
			clear(subnets)
			for _, h := range b.hosts {
				for _, n := range h.engine.called("app") {
					subnets[n.IPAM.Config[0].Subnet] = true
				}
				if len(h.engine.called("app")) != 1 {
					return fmt.Errorf("%s has %v", h.Self().Host, h.engine.called("app"))
				}
			}
			for _, h := range b.hosts {
				if !slices.Equal(h.digest(), b.hosts[0].digest()) || h.waits() {
					return fmt.Errorf("%s is not of one mind with the first", h.Self().Host)
				}
			}
			if len(subnets) != 1 {
				return fmt.Errorf("subnets %v", slices.Collect(maps.Keys(subnets)))
			}
			return nil
		})
		loser := b.hosts[0]
		if subnets["10.1.0.0/16"] {
			loser = b.hosts[1]
		}
		if byDocker && !loser.logged("otherwise") {
			t.Errorf("round %d: the loser's log does not say so:\n%s", round, loser.log.String())
		}
		if !byDocker && errs[slices.Index(b.hosts, loser)] == nil {
			t.Errorf("round %d: who lost was told that all is well", round)
		}
		for _, h := range b.hosts {
			h.Close()
		}
	}
}

// The same Compose file on several hosts makes the same network on each.
func TestMadeAlikeOnSeveral(t *testing.T) {
	b := newBed(t, 3)
	b.cut(b.hosts[1], true)
	ids := map[*host]string{}
	for _, h := range b.hosts[:2] {
		id, err := h.engine.Create(t.Context(), "app", spec("10.1.0.0/16"))
		must(t, err)
		h.engine.use(id, "c")
		ids[h] = id
	}
	b.have("app", true, b.hosts[0], b.hosts[2])
	b.cut(b.hosts[1], false)
	b.waitFor("they agree, and nothing waits", func() error {
		for _, h := range b.hosts {
			if !slices.Equal(h.digest(), b.hosts[0].digest()) || h.waits() || len(h.engine.called("app")) != 1 {
				return fmt.Errorf("%s: %v", h.Self().Host, h.Local())
			}
		}
		return nil
	})
	for h, id := range ids {
		if got := h.engine.called("app"); got[0].ID != id {
			t.Errorf("%s: a container's network was made again", h.Self().Host)
		}
	}
}

func TestOnlySomeHosts(t *testing.T) {
	b := newBed(t, 3)
	_, err := b.hosts[0].Create("app", []string{"host2", b.hosts[2].id}, wish("10.1.0.0/16"))
	must(t, err)
	b.have("app", true, b.hosts[1:]...)
	_, err = b.hosts[0].engine.Create(t.Context(), "app", spec("10.1.0.0/16"))
	must(t, err)
	b.waitFor("who makes it where it is left out is told so", func() error {
		if s := b.hosts[0].Local(); len(s) != 1 || !strings.Contains(s[0].Reason, "--only") {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	b.have("app", true, b.hosts...) // it is left alone
}

// A network that a host has by itself is left alone, and what is wrong is said until it is gone.
func TestNameThatAHostHasAlready(t *testing.T) {
	b := newBed(t, 2)
	own := spec("10.9.0.0/16")
	own.Options = nil
	id, err := b.hosts[1].engine.Create(t.Context(), "app", own)
	must(t, err)
	_, err = b.hosts[0].Create("app", nil, wish("10.1.0.0/16"))
	must(t, err)
	b.waitFor("it is said", func() error {
		if s := b.hosts[1].Local(); len(s) != 1 || !strings.Contains(s[0].Reason, "docker network rm") {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	must(t, b.hosts[1].engine.Remove(t.Context(), id))
	b.have("app", true, b.hosts...)
	b.waitFor("all is well", func() error {
		if b.hosts[1].waits() {
			return fmt.Errorf("%+v", b.hosts[1].Local())
		}
		return nil
	})
}

func TestWhatIsRefused(t *testing.T) {
	b := newBed(t, 2)
	h := b.hosts[0]
	_, err := h.Create("taken", nil, wish("10.1.0.0/16"))
	must(t, err)
	h.engine.use(h.engine.called("taken")[0].ID) // all else is as it was
	long := wish("10.2.0.0/16")
	long.Labels = map[string]string{"long": strings.Repeat("x", maxSpec)}
	odd := wish("10.2.0.0/16")
	odd.IPAM.Config[0].Gateway = "10.3.0.1"
	for name, c := range map[string]struct {
		network string
		only    []string
		spec    engine.Spec
		want    string
	}{
		"name in use":       {"taken", nil, wish("10.2.0.0/16"), "has defined it already"},
		"no such host":      {"new", []string{"host9"}, wish("10.2.0.0/16"), `--only "host9"`},
		"too long":          {"new", nil, long, "leave some out"},
		"bad subnet":        {"new", nil, wish("10.2.0.0"), `--subnet "10.2.0.0"`},
		"gateway elsewhere": {"new", nil, odd, `--gateway "10.3.0.1"`},
		"bad name":          {"new one", nil, wish("10.2.0.0/16"), `network name "new one"`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := h.Create(c.network, c.only, c.spec); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if len(h.all()) != 1 {
				t.Errorf("defined: %+v", h.all())
			}
			if got := h.engine.called(c.network); c.network != "taken" && len(got) > 0 {
				t.Errorf("the engine has %v", got)
			}
		})
	}
	h.engine.broken = errors.New("subnet overlaps")
	if _, err := h.Create("new", nil, wish("10.2.0.0/16")); err == nil || !strings.Contains(err.Error(), "subnet overlaps") {
		t.Errorf("got %v", err)
	}
	if _, err := h.Remove("none"); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v", err)
	}
}

// Tables that have heard the same are the same, in whatever order.
func TestMergeInAnyOrder(t *testing.T) {
	var heard []Definition
	for range 200 {
		d := Definition{Name: fmt.Sprintf("n%d", rand.IntN(5)), Version: 1 + rand.Uint64N(4), Origin: fmt.Sprintf("%032x", rand.IntN(3)), Removed: rand.IntN(3) == 0}
		if !d.Removed {
			must(t, d.write(wish(fmt.Sprintf("10.%d.0.0/16", rand.IntN(3)))))
		}
		heard = append(heard, d)
	}
	first := table{}
	for i := range 20 {
		got := table{}
		for _, d := range heard {
			_, err := got.merge(d)
			must(t, err)
		}
		if i == 0 {
			first = got
		} else if !bytes.Equal(got.digest(), first.digest()) {
			t.Fatalf("%v\nand %v", first.all(), got.all())
		}
		rand.Shuffle(len(heard), func(i, j int) { heard[i], heard[j] = heard[j], heard[i] })
	}
}

// The removals that a host remembers are bounded; what is defined is never dropped for them.
func TestOldRemovalsAreForgotten(t *testing.T) {
	all := table{}
	kept := Definition{Name: "kept", Version: 1, Origin: "o"}
	must(t, kept.write(wish("10.1.0.0/16")))
	_, err := all.merge(kept)
	must(t, err)
	for i := range uint64(maxRemoved + 50) {
		_, err := all.merge(Definition{Name: fmt.Sprintf("n%d", i), Version: 2 + i, Origin: "o", Removed: true})
		must(t, err)
	}
	if len(all) != maxRemoved+1 || all.get("kept") == nil || all["n0"] != nil {
		t.Errorf("%d are kept", len(all))
	}
}

// A host that has heard of nothing yet defines a name anew that was removed often before.
func TestNewHostKnowsNoRemovals(t *testing.T) {
	b := newBed(t, 2)
	fresh := b.hosts[1]
	b.cut(fresh, true)
	for range 3 {
		_, err := b.hosts[0].Create("app", nil, wish("10.1.0.0/16"))
		must(t, err)
		_, err = b.hosts[0].Remove("app")
		must(t, err)
		b.have("app", false, b.hosts[0])
	}
	_, err := fresh.engine.Create(t.Context(), "app", spec("10.2.0.0/16"))
	must(t, err)
	b.waitFor("it is defined", func() error {
		if fresh.definition("app") == nil {
			return errors.New("it is not")
		}
		return nil
	})
	b.cut(fresh, false)
	b.have("app", true, b.hosts...)
}

// What a later version has put into a definition is passed on as it came; a host that does not know it does not make the network.
func TestDefinitionOfALaterVersion(t *testing.T) {
	b := newBed(t, 3)
	d := Definition{Name: "app", Version: 7, Origin: b.hosts[0].id}
	text, err := json.Marshal(wish("10.1.0.0/16"))
	must(t, err)
	d.Spec = append(text[:len(text)-1], `,"Encrypted":true}`...)
	must(t, d.check())
	must(t, b.hosts[0].put(d, ""))
	b.waitFor("all hold it, and say why they do not make it", func() error {
		for _, h := range b.hosts {
			s := h.Local()
			if !bytes.Equal(h.digest(), b.hosts[0].digest()) || len(s) != 1 || s[0].Present || !strings.Contains(s[0].Reason, "upgrade this host") {
				return fmt.Errorf("%s: %+v", h.Self().Host, s)
			}
		}
		return nil
	})
	if got := b.hosts[2].definition("app"); !strings.Contains(string(got.Spec), "Encrypted") {
		t.Errorf("it became %s", got.Spec)
	}
	b.hosts[2].Close()
	b.hosts[2].start()
	if !bytes.Equal(b.hosts[2].digest(), b.hosts[0].digest()) {
		t.Error("it is another one after a restart")
	}
}

// Docker 20.10 tells of a gateway that it chose for IPv6 with its prefix length, and of one that there is not as "<nil>".
func TestGatewaysAsOldEnginesTellThem(t *testing.T) {
	b := newBed(t, 2)
	made := spec("")
	made.IPAM.Config = []engine.Pool{{Subnet: "10.1.0.0/16", Gateway: "<nil>"}, {Subnet: "fd00:1::/64", Gateway: "fd00:1::1/64"}}
	made.EnableIPv6 = true
	_, err := b.hosts[0].engine.Create(t.Context(), "app", made)
	must(t, err)
	b.have("app", true, b.hosts...)
	if got := b.hosts[1].engine.called("app")[0].IPAM.Config; got[0].Gateway != "" || got[1].Gateway != "fd00:1::1" {
		t.Errorf("the other host made %+v", got)
	}
}

func TestDamagedFile(t *testing.T) {
	b := newBed(t, 2)
	_, err := b.hosts[0].Create("app", nil, wish("10.1.0.0/16"))
	must(t, err)
	b.have("app", true, b.hosts...)
	h := b.hosts[1]
	h.Close()
	must(t, os.WriteFile(filepath.Join(h.dir, fileName), []byte("{"), 0o600))
	h.start()
	b.waitFor("it hears of the definition again", func() error {
		if h.definition("app") == nil || h.waits() {
			return fmt.Errorf("%+v", h.Local())
		}
		return nil
	})
	b.have("app", true, h)
}

func FuzzDecode(f *testing.F) {
	d := Definition{Name: "app", Version: 7, Origin: fmt.Sprintf("%032x", 1), Only: []string{"a"}}
	if err := d.write(wish("10.1.0.0/16")); err != nil {
		f.Fatal(err)
	}
	gone := Definition{Name: "old", Version: 8, Origin: d.Origin, Removed: true}
	for _, m := range []message{
		{definitions: []Definition{d, gone}},
		{digest: make([]byte, 32)},
		{ask: 3},
		{told: 3, states: []State{{Name: "app", Present: true, Reason: "r", identity: d.identity()}}},
	} {
		text, err := m.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := decode(text)
		if err != nil {
			return
		}
		all := table{}
		for _, d := range m.definitions {
			all.merge(d)
		}
		m.definitions = all.all()
		again, err := m.encode()
		must(t, err)
		back, err := decode(again)
		must(t, err)
		same := table{}
		for _, d := range back.definitions {
			_, err := same.merge(d)
			must(t, err)
		}
		if !bytes.Equal(same.digest(), all.digest()) {
			t.Errorf("%v became %v", all.all(), same.all())
		}
	})
}

// What is encrypted where it is made is so on all hosts, also where that was not said with the network but with the host.
func TestEncryptedEverywhere(t *testing.T) {
	for name, making := range map[string]func(h *host) error{
		"overlane": func(h *host) error { _, err := h.Create("app", nil, wish("10.1.0.0/16")); return err },
		"docker":   func(h *host) error { _, err := h.engine.Create(t.Context(), "app", spec("10.1.0.0/16")); return err },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, 3)
			encrypting, alike := b.hosts[0], b.hosts[1]
			for _, h := range []*host{encrypting, alike} {
				h.Close()
				h.encrypt = true
				h.start()
			}
			must(t, making(encrypting))
			b.have("app", true, b.hosts...)
			if got := b.hosts[2].engine.called("app")[0]; got.Options[OptionEncrypted] != "true" {
				t.Errorf("another host has %+v", got)
			}
			for _, h := range b.hosts {
				b.waitFor("all is as defined", func() error {
					for _, s := range h.Local() {
						if s.Reason != "" {
							return fmt.Errorf("%+v", s)
						}
					}
					return nil
				})
			}
		})
	}
}

// A user makes it on two hosts, on which all networks are encrypted: it is the same, and keeps its containers.
func TestEncryptedAlikeOnTwoHosts(t *testing.T) {
	b := newBed(t, 2)
	ids := make([]string, 2)
	for i, h := range b.hosts {
		h.Close()
		h.encrypt = true
		h.start()
		b.cut(h, true)
		given := spec("10.1.0.0/16")
		if i == 1 {
			given.Options[OptionEncrypted] = "" // as `docker network create -o encrypted` passes it
		}
		var err error
		ids[i], err = h.engine.Create(t.Context(), "app", given)
		must(t, err)
		b.waitFor("it is defined", func() error {
			if len(h.List(t.Context(), "app")) != 1 {
				return errors.New("not yet")
			}
			return nil
		})
	}
	for _, h := range b.hosts {
		b.cut(h, false)
	}
	b.waitFor("one definition", func() error {
		one, other := b.hosts[0].Defined("app"), b.hosts[1].Defined("app")
		if one.identity() != other.identity() {
			return fmt.Errorf("%s and %s", one.identity(), other.identity())
		}
		return nil
	})
	for i, h := range b.hosts {
		b.waitFor("it is as defined", func() error {
			if s := h.Local(); len(s) != 1 || s[0].Reason != "" {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
		if got := h.engine.called("app"); len(got) != 1 || got[0].ID != ids[i] {
			t.Errorf("%s has %+v, not the network that its user made", h.Self().Host, got)
		}
	}
}

// A plain network from before all were encrypted is not taken for what a new definition of its name says, and gives way to it.
func TestPlainIsNotTakenForEncrypted(t *testing.T) {
	b := newBed(t, 2)
	_, err := b.hosts[0].Create("app", nil, wish("10.1.0.0/16"))
	must(t, err)
	b.have("app", true, b.hosts...)
	old := b.hosts[1].engine.called("app")[0].ID
	b.hosts[1].engine.use(old, "web")
	for _, h := range b.hosts {
		h.Close()
		h.encrypt = true
		h.start()
	}
	_, err = b.hosts[0].Remove("app")
	must(t, err)
	b.have("app", false, b.hosts[0])
	_, err = b.hosts[0].Create("app", nil, wish("10.1.0.0/16"))
	must(t, err)
	b.waitFor("it is not as defined", func() error {
		if s := b.hosts[1].Local(); len(s) != 1 || s[0].Reason == "" {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	b.hosts[1].engine.use(old)
	b.waitFor("the old one gives way", func() error {
		if got := b.hosts[1].engine.called("app"); len(got) != 1 || got[0].ID == old || !b.hosts[1].engine.encrypted(got[0].ID) {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
}
