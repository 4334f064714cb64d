package check

import "github.com/overlane/overlane/names"

// resolution asks for what containers' names need of the kernel, in a network namespace made for that.
func resolution() Result {
	if err := names.Try(); err != nil {
		return Result{"names", Warn, err.Error(), "install Linux 5.9 or later and give the daemon CAP_NET_ADMIN and CAP_SYS_ADMIN: until then containers find those of other hosts by address alone"}
	}
	return Result{"names", OK, "a program that hands containers' DNS queries to overlane was loaded, and removed", ""}
}
