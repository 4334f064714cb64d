import { el, setText } from './dom.js';
import { clock, duration, several } from './format.js';
import { Feed } from './state.js';
import { hosts } from './hosts.js';
import { containers } from './containers.js';
import { drops } from './drops.js';
import { health } from './health.js';
import { trace } from './trace.js';

// Each view has a name for the address, a title, and create(root, go), which gives a function that shows a state.
const views = [hosts, containers, trace, drops, health];

const main = document.getElementById('main');
const shown = new Map();
let current, state, history, since;

for (const view of views) {
  const link = el('a', { href: `#/${view.name}` }, view.title);
  const heading = el('h2', { id: `title-${view.name}`, tabindex: -1 }, view.title);
  const root = el('section', { 'aria-labelledby': heading.id, hidden: true }, heading);
  document.getElementById('views').append(el('li', {}, link));
  main.append(root);
  shown.set(view.name, { view, link, root, heading, update: view.create(root, go) });
}

function go(name, query) {
  location.hash = `#/${name}${query ? `?q=${encodeURIComponent(query)}` : ''}`;
}

function route(moveFocus) {
  const [, name, query] = location.hash.match(/^#\/(\w+)(?:\?q=(.*))?$/) ?? [];
  const before = current;
  current = shown.get(name) ?? shown.get(views[0].name);
  for (const entry of shown.values()) {
    entry.root.hidden = entry !== current;
    if (entry === current) entry.link.setAttribute('aria-current', 'page');
    else entry.link.removeAttribute('aria-current');
  }
  if (query !== undefined) current.view.ask?.(decodeURIComponent(query));
  document.title = `${current.view.title} – overlane${state ? ` on ${state.node.host}` : ''}`;
  if (moveFocus && before !== current) current.heading.focus();
  draw();
}

function draw() {
  if (state) current.update(state, history);
}

new Feed((next, past) => {
  const first = !state;
  [state, history, since] = [next, past, Date.now()];
  const { node, problems } = state;
  setText(document.getElementById('here'), `on ${node.host}`);
  setText(document.getElementById('lost'), '');
  setText(document.getElementById('about'), `overlane ${node.version}, up for ${duration(node.uptime)}. This page changes nothing.`);
  const unwell = problems.length ? `${several(problems.length, 'thing is', 'things are')} unwell` : '';
  setText(document.getElementById('unwell'), unwell);
  const link = shown.get('health').link;
  setText(link, problems.length ? `Health (${problems.length})` : 'Health');
  link.classList.toggle('bad', problems.length > 0);
  if (first) route(false);
  else draw();
  main.dataset.ready = 'true';
}, (error) => {
  setText(document.getElementById('lost'), `${error.message}.${since ? ` What is shown is of ${clock(since)}.` : ''}`);
});

document.querySelector('.skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});

const theme = document.getElementById('theme');
theme.value = document.documentElement.dataset.theme ?? '';
theme.addEventListener('change', () => {
  document.documentElement.dataset.theme = theme.value;
  try {
    localStorage.setItem('theme', theme.value);
  } catch {
    // It lasts as long as the page.
  }
  dispatchEvent(new Event('theme'));
});

addEventListener('hashchange', () => route(true));
route(false);
