//go:build soak

package keyexchange

const schedules = 1000
