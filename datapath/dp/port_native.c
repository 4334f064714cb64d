// SPDX-License-Identifier: Apache-2.0
/* A port that is an ethdev: what a DPDK-native container hangs on. Its frames carry no virtio-net header. */
#include <errno.h>

#include <rte_prefetch.h>

#include "port.h"

unsigned
dp_native_read(struct dp_worker *w, struct dp_port *port, struct rte_mbuf **mbufs, unsigned n)
{
	struct dp_traffic *traffic = &port->worker[w->id].traffic;
	unsigned kept = 0;
	uint64_t bytes = 0;

	for (unsigned i = 0; i < n; i++)
		rte_prefetch0(rte_pktmbuf_mtod(mbufs[i], void *));
	for (unsigned i = 0; i < n; i++) {
		struct dp_frame *f = &w->frames[kept];

		bytes += mbufs[i]->pkt_len;
		if (unlikely(mbufs[i]->nb_segs > 1)) {
			dp_port_count(w, DP_DROP_OVERSIZE, port);
			continue;
		}
		f->data = rte_pktmbuf_mtod(mbufs[i], uint8_t *);
		f->mbuf = &mbufs[i];
		f->len = mbufs[i]->data_len;
		f->vnet = (struct virtio_net_hdr){ 0 };
		w->from[kept++] = port;
	}
	traffic->rx_packets += n;
	traffic->rx_bytes += bytes;
	return kept;
}

static void
queue_copy(struct dp_worker *w, const struct dp_frame *f, void *to, struct rte_mbuf *m)
{
	struct dp_port *port = to;

	(void)f;
	dp_eth_queue(w, port->eth, port, m);
}

static void
native_deliver(struct dp_worker *w, struct dp_port *port, struct dp_frame *f)
{
	if (f->mbuf)
		dp_eth_forward(w, port, f->mbuf, f->data, f->len);
	else
		dp_eth_copy(w, f, false, queue_copy, port);
}

/* Answers and copies of group frames: their virtio-net header wishes nothing. */
static void
native_write(struct dp_worker *w, struct dp_port *port, const struct iovec *iov, int n, uint32_t len)
{
	struct dp_frame f = { .data = iov[n - 1].iov_base, .len = len };

	dp_eth_copy(w, &f, false, queue_copy, port);
}

static int
native_start(struct dp_port *port)
{
	if (!port->eth)
		return -ENOENT;
	if (port->eth->users || atomic_load(&port->eth->underlay))
		return -EBUSY;
	port->eth->users++;
	atomic_store_explicit(&port->eth->port, port, memory_order_release);
	return 0;
}

static void
native_stop(struct dp_port *port)
{
	atomic_store_explicit(&port->eth->port, NULL, memory_order_release);
	port->eth->users--;
}

const struct dp_port_ops dp_native_ops = {
	.start = native_start,
	.stop = native_stop,
	.write = native_write,
	.deliver = native_deliver,
};
