package datapath

import "math"

// FreeHugepages is for the tests.
func FreeHugepages(dir string) uint64 { return freeHugepages(dir) }

// PretendHugepages has every hugepage one could wish for seem free.
func PretendHugepages() {
	freeHugepages = func(string) uint64 { return math.MaxUint64 }
}
