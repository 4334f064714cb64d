import { el, setText } from './dom.js';
import { bits, several } from './format.js';
import { Table } from './table.js';
import { trace } from './trace.js';

// Every container that this host knows of, and what those here send and receive.
export const containers = {
  name: 'containers',
  title: 'Containers',
  create(root, go) {
    const filter = el('input', { type: 'search', id: 'filter', autocomplete: 'off', spellcheck: 'false', placeholder: 'name, network, address or host' });
    const found = el('p', { role: 'status' });
    const hint = el('p', { role: 'status' });
    let from;
    // The first that is chosen is where packets come from, the second where they go.
    const choose = (c) => {
      const [one, other] = [from, c];
      from = one ? undefined : c;
      setText(hint, from ? `Trace packets of ${c.name}: choose the other container.` : '');
      table.draw();
      if (!one || one.id === other.id) return;
      go('trace');
      trace.start(one, other);
    };
    const table = new Table({
      caption: 'Containers of all hosts. Rates are known of those on this host alone; the others are on their hosts\u2019 pages.',
      key: (c) => c.id,
      empty: 'No container is like that.',
      columns: [
        { title: 'Container', head: true, button: choose, pressed: (c) => c.id === from?.id, text: (c) => c.aliases ? `${c.name} (${c.aliases})` : c.name },
        { title: 'Network', text: (c) => c.network },
        { title: 'Addresses', text: (c) => (c.addrs ?? []).join(' ') },
        { title: 'Host', text: (c) => c.here ? `${c.host} (this one)` : c.host },
        { title: 'Receives', numeric: true, text: (c) => c.rate ? bits(c.rate.rx) : '', sort: (c) => c.rate?.rx ?? -1 },
        { title: 'Sends', numeric: true, text: (c) => c.rate ? bits(c.rate.tx) : '', sort: (c) => c.rate?.tx ?? -1 },
        { title: 'State', wide: true, text: (c) => c.state || 'reachable', mark: (c) => c.state ? 'bad' : null },
      ],
    });
    root.append(el('p', { class: 'filter' }, el('label', { for: filter.id }, 'Filter '), filter), found,
      el('p', { class: 'quiet' }, 'To see packets on their way, choose two containers by their names.'), hint, table.root);
    let all = [];
    const draw = () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      const rows = all.filter((c) => words.every((word) => c.words.includes(word)));
      setText(found, words.length ? `${several(rows.length, 'container')} of ${all.length}` : several(rows.length, 'container'));
      table.update(rows);
    };
    filter.addEventListener('input', draw);
    this.ask = (query) => { filter.value = query; };
    return (state) => {
      all = state.containers;
      for (const c of all) c.words = [c.name, c.aliases, c.network, ...(c.addrs ?? []), c.host, c.mac, c.state].join(' ').toLowerCase();
      draw();
    };
  },
};
