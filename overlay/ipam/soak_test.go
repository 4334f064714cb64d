//go:build soak

package ipam

var modelBounds = []bounded{
	{hosts: 2, members: 1, inFlight: 2, compares: 6, opens: 2, asks: 1, crashes: 1, restarts: 1, reclaims: 1},
	{hosts: 2, members: 2, inFlight: 2, compares: 4, closes: 2, opens: 1},
	{hosts: 2, members: 2, inFlight: 1, compares: 6, asks: 1, closes: 2, opens: 2},
	{hosts: 2, members: 2, inFlight: 1, compares: 4, asks: 1, closes: 1, opens: 1, crashes: 1, restarts: 1},
	{hosts: 2, members: 2, inFlight: 1, compares: 4, asks: 1, closes: 2, crashes: 1, restarts: 1},
	{hosts: 3, members: 2, inFlight: 1, compares: 2, closes: 1, asks: 1},
	{hosts: 3, members: 3, inFlight: 1, compares: 1, closes: 2},
	{hosts: 3, members: 3, inFlight: 1, compares: 1, crashes: 1, reclaims: 1, restarts: 1},
	{hosts: 3, members: 2, inFlight: 1, compares: 1, opens: 1, crashes: 1, reclaims: 1},
}
