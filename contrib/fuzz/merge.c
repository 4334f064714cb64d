/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes merging. Input: frames, each behind a byte with its length and a byte of which the lowest bit tells to make
 * its checksums right, since chance would not, and the next one to leave TCP's or UDP's to a card. No frame may vanish, and a unit
 * of several, segmented again, must be the very frames, with checksums: that is what makes merging invisible.
 */
#include <netinet/in.h>
#include <stdlib.h>

#include "pure_csum.h"
#include "fuzz.h"
#include "pure_gro.h"
#include "pure_gso.h"
#include "pure_partial.h"

#define FRAMES 64

struct input {
	uint8_t *bytes; /* handed over, and patched */
	uint8_t *pristine;
	uint32_t len;
	struct dp_hdrs h;
	bool parsed;
};

static struct dp_gro gro;

static void
right_checksums(uint8_t *frame, const struct dp_hdrs *h, bool partial)
{
	dp_ipv4_hdr *ip4 = (void *)(frame + h->l3);

	if (h->version == 4) {
		ip4->hdr_checksum = 0;
		ip4->hdr_checksum = ~dp_csum_fold(dp_csum_add(ip4, h->l4 - h->l3, 0));
	}
	dp_store16(frame + h->l4 + dp_csum_offset(h), dp_csum_fold(dp_pseudo_sum(frame, h, h->end - h->l4)));
	if (!partial)
		dp_csum_complete(frame, h->end, h->l4, dp_csum_offset(h));
}

static unsigned
read_frames(const uint8_t *data, size_t size, struct input *in)
{
	unsigned n = 0;

	while (size > 2 && n < FRAMES) {
		uint32_t len = data[0] < size - 2 ? data[0] : size - 2;
		uint8_t how = data[1];
		struct input *f = &in[n++];

		f->bytes = fuzz_copy(data + 2, len);
		f->len = len;
		f->parsed = dp_parse(f->bytes, len, &f->h) <= DP_PARSE_NOT_IP;
		if (f->parsed && f->h.transport && how & 1)
			right_checksums(f->bytes, &f->h, how & 2);
		f->pristine = fuzz_copy(f->bytes, len);
		data += 2 + len;
		size -= 2 + len;
	}
	return n;
}

/* The unit as one super-frame, in memory of its exact size. */
static uint8_t *
whole(const struct dp_gro_unit *unit)
{
	uint8_t *frame = malloc(unit->len);
	uint32_t at = 0;

	for (unsigned i = 1; i < unit->n_iov; i++) {
		FUZZ_CHECK(at + unit->iov[i].iov_len <= unit->len);
		memcpy(frame + at, unit->iov[i].iov_base, unit->iov[i].iov_len);
		at += unit->iov[i].iov_len;
	}
	FUZZ_CHECK(at == unit->len);
	return frame;
}

/* The input frame whose payload the unit's piece is. */
static const struct input *
origin(const struct input *in, unsigned n, const uint8_t *piece)
{
	for (unsigned i = 0; i < n; i++)
		if (piece >= in[i].bytes && piece < in[i].bytes + in[i].len)
			return &in[i];
	abort();
}

/* Segmenting counts the IPv4 id up. Where DF is set and the ids were equal they mean nothing: RFC 6864. */
static void
forget_id(uint8_t *frame, const struct dp_hdrs *h)
{
	dp_ipv4_hdr *ip = (void *)(frame + h->l3);

	if (h->version != 4)
		return;
	ip->packet_id = 0;
	ip->hdr_checksum = 0;
}

static void
check_unit(const struct dp_gro_unit *unit, const struct input *in, unsigned n)
{
	uint8_t *frame = whole(unit);
	struct dp_hdrs h;
	struct dp_gso gso;

	FUZZ_CHECK(dp_parse(frame, unit->len, &h) == DP_PARSE_OK);
	FUZZ_CHECK(dp_gso_plan(&gso, frame, &h, &unit->vnet) == unit->n_segs);
	for (unsigned i = 0; i < unit->n_segs; i++) {
		const struct input *from = origin(in, n, unit->iov[1 + i].iov_base);
		uint8_t *segment = malloc(from->h.end), *original = fuzz_copy(from->pristine, from->h.end);
		const uint8_t *payload;
		uint32_t payload_len;

		FUZZ_CHECK(gso.hdr_len == from->h.payload);
		if (dp_is_partial(original, &from->h))
			dp_csum_complete(original, from->h.end, from->h.l4, dp_csum_offset(&from->h));
		dp_gso_segment(&gso, i, segment, &payload, &payload_len);
		FUZZ_CHECK(gso.hdr_len + payload_len == from->h.end);
		memcpy(segment + gso.hdr_len, payload, payload_len);
		if (unit->fixed_id) {
			forget_id(segment, &from->h);
			forget_id(original, &from->h);
		}
		FUZZ_CHECK(!memcmp(segment, original, from->h.end));
		free(original);
		free(segment);
	}
	free(frame);
}

/* Its checksum is vouched for where nobody has computed one, and nowhere else. */
static void
check_single(const struct dp_gro_unit *unit)
{
	bool partial = dp_is_partial(unit->iov[1].iov_base, &unit->hdrs);

	FUZZ_CHECK(unit->vnet.flags == (partial ? VIRTIO_NET_HDR_F_NEEDS_CSUM : 0) && unit->vnet.gso_type == VIRTIO_NET_HDR_GSO_NONE);
	FUZZ_CHECK(!partial || (unit->vnet.csum_start == unit->hdrs.l4 && unit->vnet.csum_start + unit->vnet.csum_offset + 2u <= unit->len));
}

static void
check_units(const struct input *in, unsigned n, unsigned added)
{
	unsigned segments = 0;

	for (unsigned i = 0; i < gro.n_units; i++) {
		struct dp_gro_unit *unit = &gro.units[i];

		segments += unit->n_segs;
		dp_gro_finish(unit);
		if (unit->n_segs > 1)
			check_unit(unit, in, n);
		else
			check_single(unit);
	}
	FUZZ_CHECK(segments == added);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in[FRAMES];
	unsigned n = read_frames(data, size, in), added = 0;

	dp_gro_reset(&gro);
	gro.udp = true;
	for (unsigned i = 0; i < n; i++) {
		if (!in[i].parsed)
			continue;
		FUZZ_CHECK(dp_gro_add(&gro, &gro, in[i].bytes, in[i].len, &in[i].h, 0, false));
		added++;
	}
	check_units(in, n, added);
	for (unsigned i = 0; i < n; i++) {
		free(in[i].bytes);
		free(in[i].pristine);
	}
	return 0;
}
