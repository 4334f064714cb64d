// SPDX-License-Identifier: Apache-2.0
/*
 * The host's own tap on a device that is ours alone. To the kernel it is an interface like any other: it answers ARP,
 * neighbour discovery and ICMP there, keeps the neighbours from which next hops are taken, and carries gossip.
 */
#include <errno.h>
#include <unistd.h>

#include "port.h"

/* What the host may send before containers have their turn. */
#define TURN_FRAMES 16

void
dp_host_give(struct dp_worker *w, struct dp_port *host, uint8_t *frame, uint32_t len)
{
	struct virtio_net_hdr none = { 0 };
	struct iovec iov[2] = { { &none, sizeof(none) }, { frame, len } };

	dp_tap_ops.write(w, host, iov, 2, len);
}

static void
queue_frame(struct dp_worker *w, const struct dp_frame *f, void *to, struct rte_mbuf *m)
{
	struct dp_port *host = to;

	(void)f;
	dp_eth_queue(w, host->eth, host, m);
}

static void
send_frame(struct dp_worker *w, struct dp_port *host, struct dp_frame *f)
{
	enum dp_parse_result parsed = dp_parse_fast(f->data, f->len, &f->hdrs);

	if (f->vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE && parsed != DP_PARSE_OK)
		dp_count(w, DP_DROP_OFFLOAD);
	else
		dp_eth_copy(w, f, false, queue_frame, host);
}

/* Frames leave apart from what the burst has queued for VTEPs: they are counted apart. */
static bool
host_read(struct dp_worker *w, struct dp_port *host)
{
	bool more = true;

	dp_eth_send_queue(w, host->eth);
	for (unsigned turn = 0; more && turn < TURN_FRAMES; turn++) {
		struct dp_frame f;
		enum dp_read got = dp_tap_read(w, host, w->mbufs[w->n_frames], &f);

		if (got == DP_READ_FRAME)
			send_frame(w, host, &f);
		more = got != DP_READ_EMPTY;
	}
	dp_eth_send_queue(w, host->eth);
	return more;
}

static int
host_start(struct dp_port *host)
{
	int ret;

	if (atomic_load(&host->eth->host) || !atomic_load(&host->eth->underlay))
		return -EBUSY;
	ret = dp_tap_start(host);
	if (ret)
		return ret;
	host->eth->users++;
	atomic_store_explicit(&host->eth->host, host, memory_order_release);
	return 0;
}

static void
host_stop(struct dp_port *host)
{
	atomic_store_explicit(&host->eth->host, NULL, memory_order_release);
	host->eth->users--;
	dp_tap_stop(host);
}

const struct dp_port_ops dp_host_ops = {
	.start = host_start,
	.stop = host_stop,
	.read = host_read,
};
