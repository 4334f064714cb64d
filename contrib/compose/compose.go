// Package compose holds the Compose file of the lab's cluster.
package compose

import _ "embed"

// Cluster is cluster.yml, for those who run it from elsewhere than the root of the repository.
//
//go:embed cluster.yml
var Cluster string
