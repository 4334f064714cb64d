//go:build !soak

package keyexchange

const schedules = 40
