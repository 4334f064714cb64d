package names

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
)

var (
	here  = ID{MAC: [6]byte{2, 1}}
	there = ID{VTEP: netip.MustParseAddrPort("192.0.2.2:4789"), MAC: [6]byte{2, 2}}
	far   = ID{VTEP: netip.MustParseAddrPort("192.0.2.3:4789"), MAC: [6]byte{2, 2}}
	addr  = netip.MustParseAddr("10.20.0.2")
	addr2 = netip.MustParseAddr("10.20.0.3")
)

func wantAddrs(t *testing.T, table *Table, name string, want ...netip.Addr) {
	t.Helper()
	got, _, found := table.Lookup([]string{app}, name)
	if slices.SortFunc(got, netip.Addr.Compare); !slices.Equal(got, want) || found != (want != nil) {
		t.Errorf("%s is at %v (%v), want %v", name, got, found, want)
	}
}

// An address leads to one container, and only that one's names lead to it.
func TestAddressMoves(t *testing.T) {
	table := NewTable()
	table.Name(app, there, []string{"db"})
	table.Name(app, far, []string{"db", "other"})
	table.Address(app, addr, there)
	wantAddrs(t, table, "db", addr)
	table.Address(app, addr, far)
	wantAddrs(t, table, "db", addr)
	wantAddrs(t, table, "other", addr)
	table.NoAddress(app, addr, there) // comes too late
	wantAddrs(t, table, "other", addr)

	table.Name(app, here, []string{"mine"})
	table.Address(app, addr, here)
	wantAddrs(t, table, "mine", addr)
	if got, _, found := table.Lookup([]string{app}, "other"); len(got) > 0 || !found {
		t.Errorf("other is at %v (%v), which is this host's", got, found)
	}
	table.NoAddress(app, addr, here)
	wantAddrs(t, table, "other", addr)
}

func TestNamesChange(t *testing.T) {
	table := NewTable()
	table.Address(app, addr, there)
	wantAddrs(t, table, "db")
	table.Name(app, there, []string{"DB", "db", "store"})
	table.Name(app, far, []string{"store"})
	table.Address(app, addr2, far)
	wantAddrs(t, table, "db", addr)
	wantAddrs(t, table, "STORE", addr, addr2)
	table.Name(app, there, []string{"renamed"})
	wantAddrs(t, table, "db")
	wantAddrs(t, table, "store", addr2)
	wantAddrs(t, table, "renamed", addr)
	table.Call(app, "Front.End")
	wantAddrs(t, table, "renamed.front.end", addr)
	wantAddrs(t, table, "renamed.front")
	table.Clear(app)
	wantAddrs(t, table, "renamed")
}

// A host on two networks finds what is called something there, under names that no host elsewhere has.
func TestEntries(t *testing.T) {
	table := NewTable()
	parse := netip.MustParseAddr
	for _, c := range []struct {
		network, at string
		names       []string
	}{
		{"a", "10.1.0.2", []string{"db", "Store", "db.example.com"}},
		{"a", "10.1.0.3", nil},
		{"b", "10.2.0.2", []string{"DB", "web"}},
		{"c", "10.3.0.2", []string{"secret"}},
	} {
		id := ID{MAC: [6]byte(append([]byte{2, c.network[0]}, parse(c.at).AsSlice()...))}
		table.Name(c.network, id, c.names)
		table.Address(c.network, parse(c.at), id)
	}
	table.Call("b", "shop")
	before := table.Changes()
	want := []Entry{{"a", parse("10.1.0.2"), []string{"db", "Store"}}, {"b", parse("10.2.0.2"), []string{"web", "DB.shop", "web.shop"}}}
	if got := table.Entries([]string{"a", "b"}); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	table.Clear("a")
	if got := table.Entries([]string{"a", "b"}); len(got) != 1 || !slices.Contains(got[0].Names, "DB") || table.Changes() == before {
		t.Errorf("without the first: %v", got)
	}
}
