# The root file system of the managed plugin: overlane, the libraries it loads, and nothing else. contrib/plugin/create gives the
# argument, an image of the Debian that bin/overlane was built on.
ARG BASE
FROM ${BASE} AS files

# What --underlay can name: the virtual devices, and the cards of servers and clouds.
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      '^librte-(ethdev|hash|mempool-ring)[0-9]+$' '^libipsec-mb[0-9]+$' '^libpcap0.8(t64)?$' \
      '^librte-net-(af-packet|af-xdp|memif|virtio)[0-9]+$' \
      '^librte-net-(bnxt|e1000-|ena|i40e|iavf|ice|igc|ixgbe|vmxnet3-)[0-9]+$'
COPY bin/overlane /usr/bin/overlane

# DPDK opens its drivers by their place, and counts one twice that lies at two: links stay links.
RUN mkdir -p /plugin/usr/lib /plugin/usr/lib64 /plugin/run /plugin/tmp /plugin/var \
 && ln -s usr/lib usr/lib64 /plugin/ && ln -s ../run /plugin/var/run \
 && for file in /usr/bin/overlane /usr/lib/*/dpdk/pmds-*/*.so*; do \
      echo "$file"; ldd "$file" | grep -o '/[^ ]*'; \
    done | sort -u | while read -r file; do echo "$file"; realpath "$file"; done | sort -u \
    | xargs cp -a --parents -t /plugin
LABEL image=overlane/plugin

FROM scratch
COPY --from=files /plugin /
LABEL image=overlane/plugin
ENTRYPOINT ["/usr/bin/overlane", "daemon"]
