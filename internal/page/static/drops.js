import { el, setText } from './dom.js';
import { count, perSecond } from './format.js';
import { Chart, lineColours } from './chart.js';
import { Table } from './table.js';

// Packets that were dropped on this host, over time and by reason.
export const drops = {
  name: 'drops',
  title: 'Drops',
  create(root) {
    const said = el('p');
    const chart = new Chart({ name: 'Packets dropped a second, by reason', format: perSecond, height: 240 });
    const table = new Table({
      caption: 'Packets that this host has dropped since its daemon started',
      key: (drop) => drop.reason,
      empty: 'None.',
      columns: [
        { title: 'Reason', head: true, text: (drop) => drop.reason },
        { title: 'Now', numeric: true, text: (drop) => perSecond(drop.rate), sort: (drop) => drop.rate },
        { title: 'Packets', numeric: true, text: (drop) => count(drop.packets), sort: (drop) => drop.packets },
        { title: 'What it means', wide: true, text: (drop) => drop.because },
      ],
    });
    table.sortBy(2);
    root.append(said, chart.root, table.root);
    return (state, history) => {
      const rate = state.drops.reduce((sum, drop) => sum + drop.rate, 0);
      setText(said, state.drops.length ? `Dropped now: ${perSecond(rate)}. Some drops are part of every network\u2019s day; look for a reason that grows while something does not work.` : 'No packet was dropped since the daemon started.');
      chart.update(history.times, most(history.drops));
      table.update(state.drops);
    };
  },
};

// most gives the reasons that had most packets in the time that is shown.
function most(byReason) {
  const sum = (values) => values.reduce((a, b) => a + b, 0);
  return Object.entries(byReason).map(([title, values]) => ({ title, values, sum: sum(values) }))
    .sort((a, b) => b.sum - a.sum).slice(0, lineColours).sort((a, b) => a.title < b.title ? -1 : 1);
}
