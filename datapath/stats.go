package datapath

// Stats is one reading of the pipeline's counters. Counters grow from the daemon's start.
type Stats struct {
	Workers    []int             `json:"workers"`   // CPU of each worker
	Hugepages  bool              `json:"hugepages"` // packet memory lies on hugepages
	MbufsInUse uint32            `json:"mbufs_in_use"`
	MbufsTotal uint32            `json:"mbufs_total"`
	Ports      []PortStats       `json:"ports"`
	Underlay   Traffic           `json:"underlay"`
	Drops      map[string]uint64 `json:"drops"` // packets by the name of the reason; every name is present
}

// Traffic counts what went through. A super-frame counts as one packet on a port, its segments one each on the underlay.
type Traffic struct {
	RxPackets uint64 `json:"rx_packets"`
	RxBytes   uint64 `json:"rx_bytes"`
	TxPackets uint64 `json:"tx_packets"`
	TxBytes   uint64 `json:"tx_bytes"`
}

// PortStats is a port's traffic as the pipeline sees it: received from the container, transmitted to it.
type PortStats struct {
	ID   PortID `json:"id"`
	Name string `json:"name"`
	VNI  uint32 `json:"vni"`
	MAC  MAC    `json:"mac"`
	Traffic
}
