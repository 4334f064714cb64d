import { el, setText } from './dom.js';

let begin;

// What becomes of packets between two containers, which are chosen in the view of containers.
export const trace = {
  name: 'trace',
  title: 'Trace',
  // start shows the trace of what two containers say to each other.
  start(from, to) { begin(from, to); },
  create(root, go) {
    const said = el('p', { role: 'status' });
    const again = el('button', { type: 'button', hidden: true, onclick: () => run() }, 'Again');
    const stop = el('button', { type: 'button', hidden: true, onclick: () => running?.abort() }, 'Stop');
    const text = el('pre', { tabindex: 0, role: 'log', 'aria-live': 'off', 'aria-label': 'Packets on their way', hidden: true });
    const choose = el('p', {}, 'Choose two containers: ', el('button', { type: 'button', onclick: () => go('containers') }, 'Containers'));
    root.append(choose, said, el('p', {}, again, ' ', stop), text);
    let ends, running;

    begin = (from, to) => {
      ends = { network: from.key, from: from.addrs[0], to: to.addrs[0], name: `${from.name} and ${to.name}` };
      run();
    };

    async function run() {
      running?.abort();
      const own = running = new AbortController();
      setText(text, '');
      text.hidden = again.hidden = stop.hidden = false;
      setText(said, `Between ${ends.name}: looking, for up to half a minute.`);
      const end = await follow(ends, own.signal, (part) => text.append(part)).catch((error) => own.signal.aborted ? 'stopped' : error.message);
      if (own !== running) return;
      setText(said, `Between ${ends.name}: ${end}.`);
      stop.hidden = true;
    }
    return () => {};
  },
};

// follow gives what the daemon writes to show, as it comes, and says how it ended.
async function follow({ network, from, to }, signal, show) {
  const answer = await fetch('api/trace', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ network, from, to }), signal });
  if (!answer.ok) throw new Error((await answer.text()).trim());
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return 'that is all';
    show(value);
  }
}
