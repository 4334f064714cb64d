package overlay

import "github.com/overlane/overlane/datapath"

// Trust is what a container may use beside the MAC address and the addresses that it was given. It never gets what is another
// endpoint's own.
type Trust string

// From the least to the most. Empty, it is that of the network; a network's is none.
const (
	TrustNone    Trust = "none"
	TrustAddress Trust = "address" // any IP address
	TrustMAC     Trust = "mac"     // any MAC address as well
)

// trustLevels are the datapath's.
var trustLevels = map[Trust]datapath.Trust{
	TrustNone:    datapath.TrustNone,
	TrustAddress: datapath.TrustAddress,
	TrustMAC:     datapath.TrustMAC,
}
