//go:build dptest

package dp

/*
#include "harness_moderation.h"
*/
import "C"

// openDevices has so many devices be open, as far as anybody asks, and returns how many were.
func openDevices(n int) int { return int(C.dp_harness_devices(C.uint32_t(n))) }

// moderate is the worker with nothing to do: whether it rests. Resting says after a turn whether it does still.
func moderate() bool { return bool(C.dp_harness_moderate()) }
func resting() bool  { return bool(C.dp_harness_resting()) }

// listen has the worker listen to the port.
func listen(port uint32) { C.dp_harness_listen(C.uint32_t(port)) }

// epollFD is what the worker sleeps on, portFD and underlayFD are descriptors in it.
func epollFD() int           { return int(C.dp_harness_epoll()) }
func portFD(port uint32) int { return int(C.dp_harness_port_fd(C.uint32_t(port))) }
func underlayFD() int        { return int(C.dp_harness_underlay_fd()) }

// runningRests is how often the running worker has rested.
func runningRests() uint64 { return uint64(C.dp_harness_rests()) }
