package lab

import (
	"os"
	"strings"
)

// platforms are what the hosts of a cluster run, in turn: tags of overlane/host, as contrib/compose/build makes them. One that is empty is
// this machine's.
var platforms = strings.Split(os.Getenv("PLATFORMS"), ",")
