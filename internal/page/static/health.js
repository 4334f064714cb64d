import { el, setText } from './dom.js';

// What is unwell, and the next step.
export const health = {
  name: 'health',
  title: 'Health',
  create(root) {
    const said = el('p'), list = el('ul', { class: 'problems' });
    root.append(said, list);
    let before = '';
    return ({ problems }) => {
      setText(said, problems.length ? 'What this host knows to be unwell, and what to do.' : 'All is well, as far as this host knows.');
      const now = JSON.stringify(problems);
      if (now === before) return;
      before = now;
      list.replaceChildren(...problems.map(problem));
    };
  },
};

function problem({ what, reason, advice }) {
  const item = el('li', {}, el('h3', {}, sentence(what)), el('p', {}, sentence(reason)));
  if (advice) item.append(el('p', {}, el('strong', {}, 'Next step: '), sentence(advice)));
  return item;
}

// Words of the status are parts of sentences; what is between backquotes is to be typed.
function sentence(text) {
  const span = el('span');
  text = text.charAt(0).toUpperCase() + text.slice(1);
  text.split('`').forEach((part, i) => { if (part) span.append(i % 2 ? el('code', {}, part) : part); });
  return span;
}
