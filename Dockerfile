# The root file system of the managed plugin: overlane, the libraries it loads, their licences, and nothing else. contrib/plugin/files gives
# the files and the arguments: an image of the Debian that the binary was built on, of this machine's architecture, and the plugin's architecture.
ARG BASE
FROM ${BASE} AS files
ARG ARCH

# What --underlay can name: the virtual devices, and the cards of servers and clouds. QEMU asks another architecture's loader which
# libraries it takes.
RUN dpkg --add-architecture "$ARCH" \
 && apt-get update \
 && apt-get install -y --no-install-recommends \
      $([ "$ARCH" = "$(dpkg --print-architecture)" ] || echo qemu-user-static) \
      "^librte-(ethdev|hash|mempool-ring)[0-9]+$:$ARCH" "^lib(ipsec-mb|ssl)[0-9]+(t64)?$:$ARCH" "^libpcap0.8(t64)?$:$ARCH" \
      "^librte-net-(af-packet|af-xdp|memif|virtio)[0-9]+$:$ARCH" \
      "^librte-net-(bnxt|e1000-|ena|i40e|iavf|ice|igc|ixgbe|vmxnet3-)[0-9]+$:$ARCH"
COPY overlane /usr/bin/overlane
COPY copyright notices /usr/share/doc/overlane/
COPY gather qemu /usr/local/bin/
RUN gather "$ARCH" /plugin
LABEL image=overlane/plugin

FROM scratch
COPY --from=files /plugin /
LABEL image=overlane/plugin
ENTRYPOINT ["/usr/bin/overlane", "daemon"]
