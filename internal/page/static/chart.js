import uPlot from './vendor/uplot.js';
import { el, setText } from './dom.js';
import { clock } from './format.js';

const probe = el('span', { hidden: true });

// What a custom property of the style sheet is in the theme of now: canvases know no properties.
export function colour(name) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

// Lines are told from each other by dashes too.
const dashes = [[], [8, 4], [2, 3], [12, 3, 2, 3], [5, 5], [1, 5]];

export const lineColours = dashes.length;

// A chart of lines over time. name says what it is of; format gives a value's text.
export class Chart {
  constructor({ name, format, height = 180 }) {
    Object.assign(this, { name, format, height, titles: [], data: null, plot: null });
    this.box = el('div', { class: 'plot', role: 'img', 'aria-label': name });
    this.legend = el('ul', { class: 'legend' });
    this.root = el('figure', { class: 'chart' }, el('figcaption', {}, name), this.box, this.legend);
    new ResizeObserver(() => this.resize()).observe(this.box);
    addEventListener('theme', () => this.rebuild());
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.rebuild());
  }

  // update shows lines, {title, values}, over times in milliseconds.
  update(times, lines) {
    this.data = [times.map((t) => t / 1000), ...lines.map((line) => line.values)];
    const titles = lines.map((line) => line.title);
    if (titles.join('\n') !== this.titles.join('\n') || !this.plot) {
      this.titles = titles;
      this.rebuild();
    } else this.plot.setData(this.data);
    this.tell(times, lines);
  }

  // tell says in words what the lines show last.
  tell(times, lines) {
    const now = lines.map(({ title, values }) => `${title} ${this.format(values.at(-1) ?? 0)}`);
    if (now.length !== this.legend.childElementCount) this.legend.replaceChildren(...now.map((_, i) => el('li', { 'data-line': i + 1 })));
    now.forEach((text, i) => setText(this.legend.children[i], text));
    this.box.setAttribute('aria-label', times.length ? `${this.name}, from ${clock(times[0])} to ${clock(times.at(-1))}; last: ${now.join(', ')}` : `${this.name}: nothing yet`);
  }

  resize() {
    if (this.plot && this.box.clientWidth) this.plot.setSize({ width: this.box.clientWidth, height: this.height });
    else if (!this.plot && this.data) this.rebuild();
  }

  rebuild() {
    this.plot?.destroy();
    this.plot = null;
    if (!this.data || !this.box.clientWidth) return;
    const axis = { stroke: colour('--quiet'), grid: { stroke: colour('--edge'), width: 1 }, ticks: { stroke: colour('--edge'), width: 1 }, font: '12px system-ui' };
    this.plot = new uPlot({
      width: this.box.clientWidth,
      height: this.height,
      legend: { show: false },
      cursor: { drag: { setScale: false }, points: { show: false }, y: false },
      scales: { y: { range: (_, min, max) => [0, max > 0 ? max * 1.1 : 1] } },
      axes: [{ ...axis, values: (_, all) => all.map((t) => clock(t * 1000)), space: 80, incrs: [1, 5, 10, 30, 60, 120, 300] },
        { ...axis, values: (_, all) => all.map(this.format), size: 84 }],
      series: [{}, ...this.titles.map((title, i) => ({ label: title, stroke: colour(`--line${i + 1}`), width: 2, dash: dashes[i], points: { show: false } }))],
    }, this.data, this.box);
  }
}
