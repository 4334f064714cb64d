// SPDX-License-Identifier: Apache-2.0
#include <time.h>

#include "port.h"
#include "port_esp.h"

/*
 * An IV is the lower 34 bits of the sequence number, which are those of one packet alone under a key (DP_SA_PACKETS), and above them
 * the time in seconds: a machine that is set back to what it was, with its memory, begins to count again, but does so later.
 */
#define IV_NUMBER_BITS 34
_Static_assert(DP_SA_PACKETS == 1ull << IV_NUMBER_BITS, "no two packets under a key have the same number in their IVs");

static void
drop(struct dp_worker *w, enum dp_drop reason, const struct dp_frame *f, const struct dp_vtep *to, unsigned n)
{
	w->drops[reason] += n;
	if (unlikely(w->capturing))
		dp_capture_dropped(w, reason, f, to);
}

bool
dp_esp_begin(struct dp_worker *w, const struct dp_frame *f, const struct dp_vtep *to, unsigned n, struct dp_esp_run *run)
{
	struct timespec now;

	run->sa = dp_sa_out(to);
	if (!run->sa) {
		drop(w, DP_DROP_ESP_NO_KEY, f, to, n);
		return false;
	}
	run->number = atomic_fetch_add_explicit(&run->sa->sent, n, memory_order_relaxed) + 1;
	if (unlikely(run->number + n > DP_SA_PACKETS)) {
		atomic_store_explicit(&run->sa->sent, DP_SA_PACKETS, memory_order_relaxed); /* far from where it would begin again */
		drop(w, DP_DROP_ESP_WORN, f, to, n);
		return false;
	}
	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	run->time = now.tv_sec;
	/* Both families have it in the same place. */
	run->port = ((const struct sockaddr_in *)&to->to)->sin_port;
	return true;
}

uint32_t
dp_esp_seal(struct dp_esp_run *run, uint32_t vni, uint8_t *packet, uint32_t frame_len)
{
	struct dp_sa *sa = run->sa;
	const uint64_t number = run->number++;
	const uint32_t text_len = dp_esp_text(frame_len), inner = DP_ESP_FRONT - sizeof(struct dp_esp_hdr) + frame_len, pad = text_len - inner - DP_ESP_TRAILER;
	struct dp_esp_hdr hdr = { htonl(sa->spi), htonl((uint32_t)number), rte_cpu_to_be_64((uint64_t)run->time << IV_NUMBER_BITS | (number & (DP_SA_PACKETS - 1))) };
	struct dp_esp_aad aad = { hdr.spi, htonl(number >> 32), hdr.number };
	struct dp_esp_nonce nonce = { .iv = hdr.iv };
	uint8_t *text = packet + sizeof(hdr), *end = text + inner;
	dp_udp_hdr *udp = (void *)text;
	dp_vxlan_hdr *vxlan = (void *)(udp + 1);

	memcpy(nonce.salt, sa->salt, sizeof(nonce.salt));
	memcpy(packet, &hdr, sizeof(hdr));
	/* No checksum: the ICV is a better one. RFC 6935 allows this over IPv6 to tunnels. */
	*udp = (struct rte_udp_hdr){ .src_port = run->port, .dst_port = run->port, .dgram_len = htons(inner) };
	*vxlan = (struct rte_vxlan_hdr){ .vx_flags = htonl(DP_VXLAN_FLAG_I), .vx_vni = htonl(vni << 8) };
	for (uint32_t i = 0; i < pad; i++)
		end[i] = i + 1;
	end[pad] = pad;
	end[pad + 1] = IPPROTO_UDP;
	dp_aead_seal(&sa->aead, (const uint8_t *)&nonce, &aad, sizeof(aad), text, text_len, text + text_len);
	return sizeof(hdr) + text_len + DP_ESP_TAG;
}
