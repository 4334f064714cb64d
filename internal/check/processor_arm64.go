package check

import "golang.org/x/sys/cpu"

// processor asks for what Debian's DPDK is compiled for. NEON is part of every such CPU that Linux runs on.
func processor() Result {
	r := Result{"CPU", OK, "NEON, CRC32 and AES", ""}
	switch {
	case !cpu.ARM64.HasCRC32:
		r.State, r.Seen, r.Cure = Fail, "no CRC32 instructions, which DPDK needs", "run overlane on another machine"
	case !cpu.ARM64.HasAES || !cpu.ARM64.HasPMULL:
		r.State, r.Seen, r.Cure = Warn, "NEON and CRC32 without AES instructions: encrypted networks are slow", "keep to networks that are not encrypted where speed counts"
	}
	return r
}
