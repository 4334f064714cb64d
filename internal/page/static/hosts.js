import { el, setAttribute, setText } from './dom.js';
import { bits, count, several } from './format.js';
import { Chart } from './chart.js';
import { Picture, coloured } from './picture.js';
import { Table } from './table.js';

// The hosts and networks, and what goes between this host and the others.
export const hosts = {
  name: 'hosts',
  title: 'Hosts',
  create(root, go) {
    let state, selected = '', network = -1;
    const choose = (id) => { selected = selected === id ? '' : id; draw(); };
    const highlight = (index) => { network = network === index ? -1 : index; draw(); };

    const said = el('p');
    const picture = new Picture(choose);
    const chips = new Chips(highlight);
    const detail = new Detail(go);
    const chart = new Chart({ name: 'VXLAN that this host receives and sends', format: bits });
    const hostTable = tableOfHosts(choose, () => selected);
    const networkTable = tableOfNetworks((row) => highlight(row.index), () => network);
    root.append(said,
      el('div', { class: 'map' },
        el('figure', {}, chips.root, picture.root, el('figcaption', {}, 'A thicker line carries more. A hollow host does not answer. Lines are what this host sends and receives: what goes between two others is seen on their own pages.')),
        detail.root),
      chart.root, hostTable.root, networkTable.root);

    function draw() {
      if (!state.networks[network]) network = -1;
      picture.update(state.hosts, selected, network);
      chips.update(state.networks, network);
      detail.update(state.hosts.find((host) => host.id === selected), state.networks);
      hostTable.update(state.hosts);
      networkTable.update(state.networks.map((row, index) => ({ ...row, index })));
    }
    return (next, history) => {
      state = next;
      setText(said, `${several(state.hosts.length, 'host')}, ${several(state.networks.length, 'network')}, ${several(state.containers.length, 'container')}. This host receives ${bits(state.underlay.rx)} and sends ${bits(state.underlay.tx)}.`);
      chart.update(history.times, [{ title: 'received', values: history.rx }, { title: 'sent', values: history.tx }]);
      draw();
    };
  },
};

// Chips are the networks as buttons: one that is pressed is shown among the hosts.
class Chips {
  constructor(chosen) {
    this.chosen = chosen;
    this.root = el('div', { class: 'chips', role: 'group', 'aria-label': 'Show the hosts of one network' });
  }

  update(networks, pressed) {
    while (this.root.childElementCount > networks.length) this.root.lastElementChild.remove();
    networks.forEach(({ name }, index) => {
      const button = this.root.children[index] ?? this.root.appendChild(el('button', { type: 'button', class: index < coloured ? `chip network${index + 1}` : 'chip', onclick: () => this.chosen(index) }, el('span')));
      setText(button.firstElementChild, name);
      setAttribute(button, 'aria-pressed', index === pressed);
    });
  }
}

// Detail is what there is to say of one host.
class Detail {
  constructor(go) {
    this.go = go;
    this.heading = el('h3', {});
    this.list = el('dl');
    this.link = el('button', { type: 'button', onclick: () => go('containers', this.host.name) }, 'Its containers');
    this.hint = el('p', { class: 'quiet' }, 'Choose a host in the picture, or by its name in the table.');
    this.root = el('section', { class: 'detail', 'aria-label': 'The host that is chosen' }, this.hint, this.heading, this.list, this.link);
  }

  update(host, networks) {
    this.host = host;
    this.hint.hidden = Boolean(host);
    for (const part of [this.heading, this.list, this.link]) part.hidden = !host;
    if (!host) return;
    setText(this.heading, host.self ? `${host.name} (this host)` : host.name);
    const rows = [['State', host.state], ['VTEP', host.vtep], ['Packets to there', host.mtu ? `up to ${host.mtu} bytes` : ''],
      ['From there', host.rate ? bits(host.rate.rx) : ''], ['To there', host.rate ? bits(host.rate.tx) : ''],
      ['Containers', count(host.containers)], ['Networks', host.networks.map((index) => networks[index].name).join(', ')],
      ['Unwell', host.reason], ['Next step', host.advice]].filter(([, text]) => text);
    if (rows.length * 2 !== this.list.childElementCount) this.list.replaceChildren(...rows.flatMap(() => [el('dt'), el('dd')]));
    rows.flat().forEach((text, i) => setText(this.list.children[i], text));
  }
}

function tableOfHosts(choose, selected) {
  return new Table({
    caption: 'Hosts',
    key: (host) => host.id,
    empty: 'This host knows of no other yet.',
    columns: [
      { title: 'Host', head: true, text: (host) => host.self ? `${host.name} (this host)` : host.name, button: (host) => choose(host.id), pressed: (host) => host.id === selected() },
      { title: 'State', text: (host) => host.state, mark: (host) => host.reason ? 'bad' : null },
      { title: 'VTEP', text: (host) => host.vtep },
      { title: 'From there', numeric: true, text: (host) => host.rate ? bits(host.rate.rx) : '', sort: (host) => host.rate?.rx ?? -1 },
      { title: 'To there', numeric: true, text: (host) => host.rate ? bits(host.rate.tx) : '', sort: (host) => host.rate?.tx ?? -1 },
      { title: 'Containers', numeric: true, text: (host) => count(host.containers), sort: (host) => host.containers },
      { title: 'Networks', numeric: true, text: (host) => count(host.networks.length), sort: (host) => host.networks.length },
    ],
  });
}

function tableOfNetworks(choose, pressed) {
  return new Table({
    caption: 'Networks of this host. Rates are of its own containers.',
    key: (network) => network.key,
    empty: 'This host has no network yet.',
    columns: [
      { title: 'Network', head: true, text: (network) => network.name, button: choose, pressed: (network) => network.index === pressed() },
      { title: 'VNI', numeric: true, text: (network) => String(network.vni), sort: (network) => network.vni },
      { title: 'Subnets', text: (network) => (network.subnets ?? []).join(' ') },
      { title: 'Encrypted', text: (network) => network.encrypted ? 'yes' : 'no' },
      { title: 'Hosts', numeric: true, text: (network) => count(network.hosts), sort: (network) => network.hosts },
      { title: 'Containers', numeric: true, text: (network) => count(network.containers), sort: (network) => network.containers },
      { title: 'Receive', numeric: true, text: (network) => bits(network.rate.rx), sort: (network) => network.rate.rx },
      { title: 'Send', numeric: true, text: (network) => bits(network.rate.tx), sort: (network) => network.rate.tx },
    ],
  });
}
