//go:build soak

package keyexchange

const schedules = 3000
