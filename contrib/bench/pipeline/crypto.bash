# shellcheck shell=bash disable=SC2154
# Encapsulation and decapsulation of an encrypted network, frames of 1400 bytes, on core $cpu, and the cipher alone: AES-GCM of the same
# library by DPDK's own measuring program. Sourced by compare; $esp is the built tests of datapath/dp.
crypto_size=1400

# Figures into $work/enc_encap, enc_decap and cipher, those of AES-256 into enc256_encap and so on. Each is the best of three: what else
# runs on the core only slows.
crypto_round() {
	local bytes
	taskset -c "$cpu" "$esp" -test.run '^$' -test.bench "ESP/AES/$crypto_size" -test.count 3 | awk -v dir="$work" '
		/^BenchmarkESP/ { for (i = 2; i < NF; i++) if (match($(i + 1), /^(en|de)cap_/)) {
			name = "enc" (/AES-256/ ? "256" : "") "_" substr($(i + 1), 1, 5)
			if ($i > best[name]) best[name] = $i } }
		END { for (name in best) print best[name] >>(dir "/" name) }'
	for bytes in 16 32; do
		for _ in 1 2 3; do crypto_alone $bytes; done | sort -n | tail -n 1 >>"$work/cipher$([ $bytes = 16 ] || echo 256)"
	done
}

# Gb/s of encryption in place. Few buffers, so that their memory costs nothing.
crypto_alone() { # BYTES OF THE KEY
	dpdk-test-crypto-perf -l "$other,$cpu" --main-lcore "$other" --no-huge --no-shconf -m 512 --no-pci --vdev crypto_aesni_gcm \
		-- --devtype crypto_aesni_gcm --ptest throughput --optype aead --aead-algo aes-gcm --aead-op encrypt --aead-key-sz "$1" \
		--aead-iv-sz 12 --aead-aad-sz 12 --digest-sz 16 --buffer-sz "$crypto_size" --burst-sz 32 --total-ops 4000000 \
		--pool-sz 1024 --desc-nb 256 --silent 2>"$work/crypto.log" | awk 'NF == 10 && $2 == size { printf "%.2f\n", $9 }' "size=$crypto_size"
}

crypto_table() {
	local bits name
	printf 'encrypted, frames of %s bytes, one core; Gb/s, median of %s rounds\n\n' "$crypto_size" "$rounds"
	printf '%-16s %9s %15s\n' '' overlane 'AES-GCM alone'
	for bits in '' 256; do
		for name in encap decap; do
			printf '%-16s %9s %9s %4sx\n' "AES-${bits:-128} $name" "$(median "enc${bits}_$name")" "$(median "cipher$bits")" \
				"$(awk -v a="$(median "enc${bits}_$name")" -v b="$(median "cipher$bits")" 'BEGIN { printf "%.2f", a / b }')"
		done
	done
	echo
}

crypto_result() {
	local name
	for name in {enc,enc256}_{encap,decap} cipher cipher256; do printf ' %s_gbps=%s' "$name" "$(median "$name")"; done
}
