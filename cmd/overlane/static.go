package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/overlane/overlane/discovery"
)

// vxlanPort is where a VTEP receives unless something else is said.
const vxlanPort = 4789

// parseStatic reads a file of static endpoints.
func parseStatic(s *settings, path string) error {
	if path == "" {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("can't read the file: %w", errors.Unwrap(err))
	}
	for i, line := range strings.Split(string(text), "\n") {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		static, err := parseStaticLine(fields)
		if err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
		s.static = append(s.static, static)
	}
	return nil
}

func parseStaticLine(fields []string) (static discovery.Static, err error) {
	if len(fields) != 4 {
		return static, fmt.Errorf("%d words, not VNI, MAC, addresses and VTEP", len(fields))
	}
	vni, err := strconv.ParseUint(fields[0], 10, 32)
	if err != nil {
		return static, fmt.Errorf("%q is no VNI", fields[0])
	}
	static.VNI = uint32(vni)
	if static.Endpoint.MAC, err = discovery.ParseMAC(fields[1]); err != nil {
		return static, err
	}
	if fields[2] != "-" {
		for _, text := range strings.Split(fields[2], ",") {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				return static, fmt.Errorf("%q is no IP address", text)
			}
			static.Endpoint.Addrs = append(static.Endpoint.Addrs, addr.Unmap())
		}
	}
	if static.VTEP, err = netip.ParseAddrPort(fields[3]); err != nil {
		addr, err := netip.ParseAddr(fields[3])
		if err != nil {
			return static, fmt.Errorf("VTEP %q is no IP address, with or without a port", fields[3])
		}
		static.VTEP = netip.AddrPortFrom(addr, vxlanPort)
	}
	static.VTEP = netip.AddrPortFrom(static.VTEP.Addr().Unmap(), static.VTEP.Port())
	static.Endpoint.ID = static.VTEP.Addr().String()
	return static, nil
}
