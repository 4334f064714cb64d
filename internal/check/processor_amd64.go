package check

import "golang.org/x/sys/cpu"

// processor asks for what Debian's DPDK is compiled for.
func processor() Result {
	r := Result{"CPU", OK, "SSE4.2, AES and AVX2", ""}
	switch {
	case !cpu.X86.HasSSE42:
		r.State, r.Seen, r.Cure = Fail, "no SSE4.2, which DPDK needs", "run overlane on another machine, or have the hypervisor pass its CPU's features on"
	case !cpu.X86.HasAES || !cpu.X86.HasPCLMULQDQ:
		r.State, r.Seen, r.Cure = Warn, "SSE4.2 without AES instructions: encrypted networks are refused", "where this is a virtual machine, have the hypervisor pass its CPU's features on"
	case !cpu.X86.HasAVX2:
		r.State, r.Seen, r.Cure = Warn, "SSE4.2 without AVX2: checksums take longer", "where this is a virtual machine, have the hypervisor pass its CPU's features on"
	}
	return r
}
