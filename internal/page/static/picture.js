import { el, setAttribute, setText, svg } from './dom.js';
import { bits, several, shortBits } from './format.js';

// Networks that have a colour; the others are told from each other by name alone.
export const coloured = 8;

// From so many hosts on they are dots, and the busiest alone have their names beside them.
const mostNamed = 24;
const namedSpace = 84;
const dotSpace = 26;

// The picture of this host among the others: a line to each, as thick as what goes over it.
export class Picture {
  constructor(chosen) {
    this.lines = svg('g');
    this.nodes = svg('g');
    this.words = svg('g', { class: 'words' });
    this.svg = svg('svg', { role: 'img', class: 'picture' }, this.lines, this.nodes, this.words);
    this.root = el('div', { class: 'canvas' }, this.svg);
    Object.assign(this, { chosen, drawn: new Map(), placed: '', state: null });
    new ResizeObserver(() => this.state && this.update(...this.state)).observe(this.root);
  }

  // update shows the hosts; selected is one's ID, network an index or -1.
  update(hosts, selected, network) {
    this.state = [hosts, selected, network];
    const width = this.root.clientWidth;
    if (!width) return;
    this.place(hosts, width);
    const words = [];
    for (const host of hosts) {
      const node = this.drawn.get(host.id);
      const dim = network >= 0 && !host.networks.includes(network);
      setAttribute(node.group, 'class', ['node', host.state, host.self && 'self', host.id === selected && 'chosen', host.reason && 'unwell', dim && 'dim'].filter(Boolean).join(' '));
      this.arcs(node, host);
      if (node.line) {
        setAttribute(node.line, 'class', ['link', host.reason && 'unwell', traffic(host) && 'busy', dim && 'dim'].filter(Boolean).join(' '));
        setAttribute(node.line, 'stroke-width', thickness(traffic(host)));
      }
      words.push({ host, node, weight: weight(host, selected, dim) });
    }
    this.name(words, width);
    setAttribute(this.svg, 'aria-label', tell(hosts));
  }

  // place gives each host its place, anew where the hosts or the room have changed.
  place(hosts, width) {
    const what = width + hosts.map((host) => host.id).join();
    if (what === this.placed) return;
    this.placed = what;
    const others = hosts.filter((host) => !host.self);
    const height = heightOf(others.length, width);
    const middle = { x: width / 2, y: height / 2 - 12 };
    const { places, dots } = arrange(others.length, middle);
    this.dots = dots;
    setAttribute(this.svg, 'viewBox', `0 0 ${width} ${height}`);
    setAttribute(this.svg, 'height', height);
    this.lines.replaceChildren();
    this.nodes.replaceChildren();
    this.drawn.clear();
    others.forEach((host, i) => {
      const at = places[i], line = svg('line', { x1: middle.x, y1: middle.y, x2: at.x, y2: at.y });
      this.lines.append(line);
      this.add(host, at, dots ? 6 : 9, line);
    });
    hosts.filter((host) => host.self).forEach((host) => this.add(host, middle, 12, null));
  }

  add(host, at, radius, line) {
    const rings = svg('g');
    const group = svg('g', { transform: `translate(${at.x} ${at.y})` }, svg('circle', { class: 'touch', r: radius + 6 }), svg('circle', { class: 'body', r: radius }), rings);
    group.addEventListener('click', () => this.chosen(host.id));
    this.nodes.append(group);
    this.drawn.set(host.id, { group, line, at, radius, rings, networks: '' });
  }

  // arcs draws around a host the colours of its networks.
  arcs(node, host) {
    const all = host.networks.filter((index) => index < coloured), what = all.join();
    if (node.networks === what || this.dots && !host.self) return;
    node.networks = what;
    const radius = node.radius + 4, round = 2 * Math.PI * radius, part = round / all.length;
    node.rings.replaceChildren(...all.map((index, i) => svg('circle', { class: `ring network${index + 1}`, r: radius, 'stroke-dasharray': all.length > 1 ? `${part - 2} ${round - part + 2}` : null, 'stroke-dashoffset': -i * part })));
  }

  // name writes names where there is room, the most important first: without room those alone that must be seen.
  name(words, width) {
    const taken = [...this.drawn.values()].map(({ at, radius }) => [at.x - radius, at.y - radius, at.x + radius, at.y + radius]);
    const texts = [], most = this.dots ? Math.ceil(width / 60) : Infinity;
    const wanted = words.filter((word) => word.weight > 0).sort((a, b) => b.weight - a.weight).slice(0, most);
    for (const { host, node, weight } of wanted) {
      const name = short(host.name), rate = traffic(host) && (width > 500 || !this.dots) ? `↓${shortBits(host.rate.rx)} ↑${shortBits(host.rate.tx)}` : '';
      const place = this.room(node, Math.max(name.length * 7.5, rate.length * 6.2) / 2 + 2, rate ? 30 : 15, width, taken, weight >= mustSee);
      if (!place) continue;
      taken.push(place);
      const x = (place[0] + place[2]) / 2;
      texts.push({ x, y: place[1] + 12, text: name, kind: 'name' });
      if (rate) texts.push({ x, y: place[1] + 26, text: rate, kind: 'rate' });
    }
    while (this.words.childElementCount > texts.length) this.words.lastElementChild.remove();
    texts.forEach(({ x, y, text, kind }, i) => {
      const element = this.words.children[i] ?? this.words.appendChild(svg('text', { 'text-anchor': 'middle' }));
      setAttribute(element, 'x', x);
      setAttribute(element, 'y', y);
      setAttribute(element, 'class', kind);
      setText(element, text);
    });
  }

  // room finds a box for a text below a host, above it or beside it, that covers nothing.
  room({ at, radius }, half, high, width, taken, must) {
    const far = radius + (this.dots ? 3 : 7);
    const boxes = [[at.x, at.y + far + high / 2], [at.x, at.y - far - high / 2], [at.x + far + half, at.y], [at.x - far - half, at.y]]
      .map(([x, y]) => [Math.min(Math.max(x, half), width - half), y])
      .map(([x, y]) => [x - half, y - high / 2, x + half, y + high / 2]);
    const free = boxes.find((box) => !taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3]));
    return free ?? (must ? boxes[0] : null);
  }
}

const traffic = (host) => host.rate ? host.rate.rx + host.rate.tx : 0;

// A line gets thicker with each tenfold, from a kilobyte a second on.
const thickness = (rate) => rate > 0 ? (1.5 + 1.3 * Math.log10(1 + rate / 1000)).toFixed(1) : '1';

const short = (name) => name.length > 16 ? `${name.slice(0, 15)}…` : name;

// Of hosts of such a weight the names are written in any case.
const mustSee = 1e13;

// weight says how much a host's name is wanted in the picture.
function weight(host, selected, dim) {
  if (host.id === selected) return 100 * mustSee;
  if (host.self) return 10 * mustSee;
  if (dim) return 0;
  return (host.reason ? mustSee : 1) + traffic(host);
}

// A few hosts need little room; a phone has more of it downwards.
function heightOf(others, width) {
  if (others <= 2) return 200;
  if (others <= 8) return 360;
  return Math.round(width < 500 ? width * 1.1 : Math.min(Math.max(width * 0.6, 320), 560));
}

// arrange finds places: on one ring where names fit beside all, else on several of dots.
function arrange(count, middle) {
  const wide = middle.x - 60, high = middle.y - 34;
  const round = (part) => Math.PI * (wide + high) * part;
  if (count <= mostNamed && count * namedSpace <= round(1)) return { places: ring(count, 1, count === 2 ? 0.25 : 0, middle, wide, high), dots: false };
  const parts = [1, 0.78, 0.58, 0.4];
  for (let space = dotSpace; ; space *= 0.9) {
    for (let rings = 1; rings <= parts.length; rings++) {
      const rooms = parts.slice(0, rings).map((part) => Math.floor(round(part) / space));
      const all = rooms.reduce((a, b) => a + b, 0);
      if (all >= count) return { places: rooms.flatMap((room, i) => ring(share(rooms, i, count, all), parts[i], (i % 2) / 2 / room, middle, wide, high)), dots: true };
    }
  }
}

// share is how many of count go to ring i, so that all are as dense.
function share(rooms, i, count, all) {
  const upTo = (end) => Math.round(count * rooms.slice(0, end).reduce((a, b) => a + b, 0) / all);
  return upTo(i + 1) - upTo(i);
}

// ring spreads places along an ellipse, at like distances, from a part of the way round on.
function ring(count, part, from, middle, wide, high) {
  const steps = 720, points = [];
  let length = 0;
  for (let i = 0; i <= steps; i++) {
    const angle = 2 * Math.PI * i / steps - Math.PI / 2, x = wide * part * Math.cos(angle), y = high * part * Math.sin(angle);
    if (i) length += Math.hypot(x - points[i - 1].x, y - points[i - 1].y);
    points.push({ x, y, length });
  }
  return Array.from({ length: count }, (_, i) => {
    const wanted = length * ((i / count + from) % 1), { x, y } = points.find((point) => point.length >= wanted - 1e-6);
    return { x: Math.round(middle.x + x), y: Math.round(middle.y + y) };
  });
}

// tell says the picture in words; the table of hosts has the rest.
function tell(hosts) {
  const busy = hosts.filter(traffic).sort((a, b) => traffic(b) - traffic(a)).slice(0, 3);
  const unwell = hosts.filter((host) => host.reason).length;
  return [`This host and ${several(hosts.filter((host) => !host.self).length, 'other')}`,
    unwell ? `${unwell} unwell` : '',
    busy.length ? `most traffic with ${busy.map((host) => `${host.name}, ${bits(host.rate.rx)} from there and ${bits(host.rate.tx)} to there`).join('; ')}` : 'no traffic between them now',
  ].filter(Boolean).join('; ');
}
